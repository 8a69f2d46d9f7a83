import type { TellNote } from '../base/events.ts';
import { createBackup } from '../operations/backup/create-backup.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { keepObjective } from '../operations/recovery-time/keep-objective.ts';
import { recoveryOutlook } from '../operations/recovery-time/recovery-outlook.ts';

/** What the agent's own backups are called. */
const BACKUP_NAME = 'recovery time';

/**
 * Takes incremental backups so that a recovery of the instance would never take longer than its objective; resolves when
 * the signal has aborted, at once where there is no objective. It never takes the first backup: that one is a person's to
 * plan.
 */
export async function keepRecoveryTime(
  agent: { readonly context: InstanceContext; readonly note: TellNote },
  signal: AbortSignal,
): Promise<void> {
  const { context, note } = agent;
  if (context.recoveryTimeObjectiveSeconds === null) return;
  await keepObjective(
    {
      outlook: each => recoveryOutlook(context, each),
      backUp: async each => {
        const request = { name: BACKUP_NAME, type: 'incremental', dryRun: false } as const;
        const { backup } = await createBackup(context, request, { signal: each, onEvent: () => undefined });
        if (backup !== null)
          note('info', `backup '${backup.id}' was made`, { topic: 'recovery time', backup: backup.id });
      },
    },
    {
      signal,
      onEvent: event => {
        if (event.type === 'note') note(event.level, event.message, { topic: 'recovery time' });
      },
    },
  );
}
