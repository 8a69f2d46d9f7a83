import { delay } from '../../base/abort.ts';
import { AppError, messageOf } from '../../base/errors.ts';
import type { OnEvent } from '../../base/events.ts';
import { decideBackup } from './decide-backup.ts';
import type { RecoveryOutlook } from './recovery-outlook.ts';

export interface ObjectiveKeeper {
  readonly outlook: (signal: AbortSignal) => Promise<RecoveryOutlook>;
  /** Takes an incremental backup. */
  readonly backUp: (signal: AbortSignal) => Promise<void>;
  readonly everyMs?: number;
}

const EVERY_MS = 30_000;
/** What an incremental backup is taken to last until one was made. */
const FIRST_BACKUP_SECONDS = 10;

/**
 * Keeps the recovery time below the objective: looks how long a recovery would take, again and again, and takes an
 * incremental backup before that passes the objective. Runs until the signal aborts. What goes wrong is told, and tried
 * again: a repository that cannot be reached for an hour must not end the protection for good.
 */
export async function keepObjective(
  keeper: ObjectiveKeeper,
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<void> {
  const { signal, onEvent } = options;
  const everyMs = keeper.everyMs ?? EVERY_MS;
  const tell = tellOnce(onEvent);
  let backupSeconds = FIRST_BACKUP_SECONDS;
  let last: Seen | null = null;
  while (!signal.aborted) {
    try {
      const { estimate, objectiveSeconds } = await keeper.outlook(signal);
      if (estimate !== null && objectiveSeconds !== null) {
        const now = { logBytes: estimate.logBytes, atMs: performance.now(), backup: estimate.backup.id };
        const pace = { logBytesPerSecond: rateOf(last, now), backupSeconds, everySeconds: everyMs / 1000 };
        last = now;
        const decision = decideBackup(estimate, objectiveSeconds, pace);
        if (decision.action === 'incremental') {
          onEvent({
            type: 'note',
            level: 'info',
            message: `an incremental backup is taken: ${decision.reason}`,
          });
          const startedAt = performance.now();
          await keeper.backUp(signal);
          backupSeconds = (performance.now() - startedAt) / 1000;
          last = null;
        }
        tell(decision.action === 'unreachable' ? decision.reason : null);
      }
    } catch (error) {
      if (signal.aborted) return;
      tell(
        `the recovery time is not looked after: ${messageOf(error)}${error instanceof AppError && error.hint !== undefined ? ` ${error.hint}` : ''}`,
      );
    }
    await delay(everyMs, signal).catch(() => undefined);
  }
}

interface Seen {
  readonly logBytes: number;
  readonly atMs: number;
  readonly backup: string;
}

function rateOf(last: Seen | null, now: Seen): number | null {
  if (last === null || last.backup !== now.backup || now.atMs <= last.atMs) return null;
  return Math.max(0, now.logBytes - last.logBytes) / ((now.atMs - last.atMs) / 1000);
}

/** A warning is told when it comes, and again only once it had gone. */
function tellOnce(onEvent: OnEvent): (message: string | null) => void {
  let told = false;
  return message => {
    if (message !== null && !told) onEvent({ type: 'note', level: 'warning', message });
    told = message !== null;
  };
}
