import { runStep } from '../../base/events.ts';
import { manifestLines } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { secureHistory, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { checkPacksPresent } from '../verify/verify-sample.ts';
import type { LiveInstance } from './live-instance.ts';
import { planRecovery, type RecoveryPlan } from './plan-restore.ts';
import type { RestoreRequest } from './restore-request.ts';

const LOG_TIMEOUT_MS = 30_000;

/** First gets what the live server has of the log into the archive, then plans with it. */
export async function planWithLog(
  context: InstanceContext,
  request: RestoreRequest,
  options: RunOptions & { readonly live: LiveInstance | null },
): Promise<RecoveryPlan> {
  const { live, onEvent, signal } = options;
  const askedUs = BigInt(Date.now()) * 1000n;
  if (request.dryRun && live?.running === true) {
    const message =
      'a dry run archives nothing: what the server committed in its present log segment is not seen yet';
    onEvent({ type: 'note', level: 'info', message });
  }
  // A dry run secures nothing and takes it that the real one will.
  let isSecured = live !== null && (!live.running || (live.answers && live.archiving));
  if (live !== null && !request.dryRun && request.target.kind !== 'backup') {
    const owner = { instance: context.instance, systemIdentifier: live.systemIdentifier };
    if (request.timeline === null) await secureHistory(context, { owner, ...live }, signal);
    const secured = await runStep(
      onEvent,
      { id: 'secure-log', title: 'Log of the live server archived', detail: log => log.detail },
      async () =>
        live.answers && live.archiving
          ? secureRunningLog(context, owner, { timeoutMs: LOG_TIMEOUT_MS, signal })
          : live.running
            ? { detail: 'log archiving is off', archived: [], problem: null }
            : secureStoppedLog(context, { owner, dataDirectory: live.dataDirectory }, signal),
    );
    if (secured.problem !== null) {
      isSecured = false;
      onEvent({ type: 'note', level: 'warning', message: secured.problem });
    }
  }
  return runStep(
    onEvent,
    {
      id: 'plan',
      title: 'Recovery planned',
      detail: plan => `from ${plan.backup.id}, ${plan.logFiles.length} files of the log`,
    },
    () =>
      planRecovery(context, request.target, {
        timeline: request.timeline ?? live?.timeline ?? null,
        systemIdentifier: live?.systemIdentifier ?? null,
        securedUs: isSecured ? askedUs : null,
        signal,
      }),
  );
}

/** Whether all of the backup is there. @throws CORRUPT */
export async function checkPacks(
  context: InstanceContext,
  plan: RecoveryPlan,
  options: RunOptions,
): Promise<void> {
  await runStep(
    options.onEvent,
    {
      id: 'check',
      title: 'Backup complete',
      detail: files => `${plan.manifest.packs.length} packs, ${files} files`,
    },
    async () => {
      await checkPacksPresent(context, plan.manifest, options.signal);
      // Read to its end while the server still runs: damage in the middle of the list would end a restore halfway.
      let files = 0;
      for await (const line of manifestLines(context.repository, plan.manifest, { signal: options.signal }))
        if (line.t !== 'dir') files += 1;
      return files;
    },
  );
}
