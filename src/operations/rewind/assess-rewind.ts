import { AppError } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LiveInstance } from '../restore/live-instance.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { isDamage } from '../verify/verify-problem.ts';
import { decideWork, type RewindAmount } from './decide-work.ts';
import { estimateFull, estimateRewind } from './estimate-rewind.ts';
import { KEEPING_COSTS } from './page-rules.ts';
import { findPlaces } from './places.ts';
import { whyNotTheseFiles, whyNotThisDirectory, whyNotThisLog } from './rewind-check.ts';
import {
  archivedEnd,
  type BegunLog,
  beginArchivedChanges,
  type RewindLog,
  readWholeChanges,
  whyOtherLog,
  whyStandbyHints,
} from './rewind-log.ts';
import { findSpGist } from './rewind-work.ts';
import type { SavedState } from './saved-state.ts';
import { listLogDirectory, listServerFiles } from './server-files.ts';
import type { Settling } from './settling.ts';

/** Whether a live data directory can be rewound to a plan's target, and what that takes; or why it cannot. */
export type RewindAssessment =
  | { readonly possible: false; readonly reason: string }
  | {
      readonly possible: true;
      readonly amount: RewindAmount;
      /** What of the log was read for it, where the server still runs. */
      readonly begun: BegunLog | null;
      /**
       * Both from now to open, as far as they differ: what both of them do is in neither. Nor is what a rewind does not replay
       * where pages are settled, which nobody knows beforehand.
       */
      readonly rewindSeconds: number;
      readonly fullSeconds: number;
    };

/**
 * Looks at the live directory, the log and the backup, as they are now; nothing is changed. Of a running server the log is
 * known as far as it is archived, so all of it is looked at again once the server is stopped.
 *
 * @throws what reading the repository throws, damage of the log excepted: then a rewind is not possible
 */
export async function assessRewind(
  context: InstanceContext,
  from: { readonly plan: RecoveryPlan; readonly live: LiveInstance; readonly stamp: string },
  signal: AbortSignal,
): Promise<RewindAssessment> {
  const { plan, live } = from;
  const places = await findPlaces(live.dataDirectory, from.stamp);
  const directory = await whyNotThisDirectory(plan, live, places);
  if (directory !== null) return { possible: false, reason: directory };
  const log = rewindLogOf(plan);
  const hints = await whyStandbyHints(context, log, signal);
  if (hints !== null) return { possible: false, reason: hints };
  const read = await readMap(context, { log, live, logDirectory: places.log }, signal);
  if (typeof read === 'string') return { possible: false, reason: read };
  const { map, settling, begun } = read;
  const why = whyNotThisLog(map, map.events, { checksums: plan.backup.pageChecksums });
  if (why !== null) return { possible: false, reason: why };
  const found = listServerFiles(places, plan.backup.tablespaceVersionDirectory);
  const files = whyNotTheseFiles(found);
  if (files !== null) return { possible: false, reason: files };
  const state: SavedState = {
    live: found,
    log: listLogDirectory(places),
    spGist: findSpGist(places, found, map),
    map,
    keepingCosts: KEEPING_COSTS,
    settling,
  };
  const { amount, neededDamage } = await decideWork(
    context,
    { manifest: plan.manifest, state, leaveSettled: true },
    signal,
  );
  if (neededDamage !== null)
    return { possible: false, reason: `${neededDamage} is damaged in the backup, and would be needed` };
  return {
    possible: true,
    amount,
    begun,
    rewindSeconds: estimateRewind(amount, context.workers),
    fullSeconds: estimateFull(plan, context.workers),
  };
}

/** The log of a plan. A target at the end of the log is a position too: that end. */
export function rewindLogOf(plan: RecoveryPlan): RewindLog {
  const { view, backup } = plan;
  const targetLsn = plan.toBackupEnd ? parseLsn(backup.stopLsn) : plan.resolved.lsn;
  return { view, backup, targetLsn: targetLsn ?? archivedEnd({ view, backup }), isToEnd: targetLsn === null };
}

/** What the log names; or why that is not known, as where it is damaged behind the target: a full restore does not need that. */
async function readMap(
  context: InstanceContext,
  from: { readonly log: RewindLog; readonly live: LiveInstance; readonly logDirectory: string },
  signal: AbortSignal,
): Promise<
  { readonly map: ChangeMap; readonly settling: Settling | null; readonly begun: BegunLog | null } | string
> {
  const { log, live, logDirectory } = from;
  try {
    if (live.running) {
      const other = await whyOtherLog(log, logDirectory);
      return other ?? (await beginArchivedChanges(context, log, signal));
    }
    const control = await readControlFile(live.dataDirectory);
    const whole = await readWholeChanges(context, log, { control, logDirectory, begun: null }, signal);
    return typeof whole === 'string' ? whole : { map: whole.map, settling: whole.settling, begun: null };
  } catch (error) {
    const isMissing = error instanceof AppError && error.code === 'LOG_NOT_FOUND';
    if (!isMissing && !isDamage(error)) throw error;
    return `not all of the log can be read: ${error.message}`;
  }
}
