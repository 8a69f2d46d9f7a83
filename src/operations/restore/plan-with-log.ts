import { AppError, messageOf } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { manifestLines } from '../../repository/manifest-reader.ts';
import { tryRecordCatalog } from '../catalog/record-catalog.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { secureHistory, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { accountOfLoss, type LossAccount } from '../timeline/account-of-loss.ts';
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
  // While it still answers, it says what its tables are called; what lies behind the target may go with them.
  const recorded =
    live?.answers === true ? tryRecordCatalog(context, { signal, onEvent: () => undefined }) : null;
  recorded?.catch(() => undefined);
  // A dry run secures nothing and takes it that the real one will.
  let isSecured = live !== null && (!live.running || (live.answers && live.archiving));
  if (live !== null && !request.dryRun && request.target.kind !== 'backup') {
    const owner = { instance: context.instance, systemIdentifier: live.systemIdentifier };
    if (request.timeline === null) await secureHistory(context, { owner, ...live }, signal);
    const secured = await runStep(
      onEvent,
      { id: 'secure-log', title: 'Log of the live server archived', detail: log => log.detail },
      async () =>
        live.answers && live.archiving && !live.inRecovery
          ? secureRunningLog(context, owner, { timeoutMs: LOG_TIMEOUT_MS, signal })
          : live.running && !live.inRecovery
            ? { detail: 'log archiving is off', archived: [], problem: null }
            : secureStoppedLog(context, { owner, dataDirectory: live.dataDirectory }, signal),
    );
    if (secured.problem !== null) {
      isSecured = false;
      onEvent({ type: 'note', level: 'warning', message: secured.problem });
    }
  }
  if (request.target.kind === 'change') await recorded;
  const plan = await runStep(
    onEvent,
    {
      id: 'plan',
      title: 'Recovery planned',
      detail: plan => `from ${plan.backup.id}, ${counted(plan.logFiles.length, 'file')} of the log`,
    },
    () =>
      planRecovery(context, request.target, {
        timeline: request.timeline ?? live?.timeline ?? null,
        systemIdentifier: live?.systemIdentifier ?? null,
        securedUs: isSecured ? askedUs : null,
        // Nothing is archived for a dry run: what the server has not archived is read where it lies.
        tail: request.dryRun ? live : null,
        signal,
      }),
  );
  await recorded;
  return { ...plan, loss: await countLoss(context, plan, { ...options, dryRun: request.dryRun }) };
}

/** The numbers are for whoever decides; a recovery does not wait long for them. */
const COUNT_MS = 5000;
const COUNT_DRY_MS = 120_000;

/** Counts what lies behind the target; null when that is nothing, or takes too long. */
async function countLoss(
  context: InstanceContext,
  plan: RecoveryPlan,
  options: RunOptions & { readonly dryRun: boolean },
): Promise<LossAccount | null> {
  const { backup, view, resolved } = plan;
  const from = plan.toBackupEnd ? parseLsn(backup.stopLsn) : resolved.lsn;
  const begin = parseLsn(backup.startLsn);
  // The log of a backup that brings it along may not be archived.
  if (from === null || view.nameAt(begin) === null || view.nameAt(from) === null) return null;
  const limitMs = options.dryRun ? COUNT_DRY_MS : COUNT_MS;
  const tooLong = AbortSignal.timeout(limitMs);
  try {
    return await runStep(
      options.onEvent,
      {
        id: 'count',
        title: 'Changes behind the target counted',
        detail: ({ transactions }) => counted(transactions, 'transaction'),
      },
      () =>
        accountOfLoss(
          context,
          view,
          { begin, from, to: view.firstMissing(from) },
          AbortSignal.any([options.signal, tooLong]),
        ),
    );
  } catch (error) {
    options.signal.throwIfAborted();
    if (!tooLong.aborted && !(error instanceof AppError)) throw error;
    const why = tooLong.aborted ? `it took longer than ${limitMs / 1000} seconds` : messageOf(error);
    const message = `what was committed behind the target was not counted: ${why}`;
    options.onEvent({ type: 'note', level: 'warning', message });
    return null;
  }
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
      detail: files => `${counted(plan.manifest.packs.length, 'pack')}, ${counted(files, 'file')}`,
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
