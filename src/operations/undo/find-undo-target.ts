import { AppError } from '../../base/errors.ts';
import { formatLsn, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { Incident } from '../incident/incident.ts';
import { readIncident, readIncidents } from '../incident/incident-store.ts';
import { isRateIncident, refuseRateIncident } from '../incident/rate-incident.ts';
import type { InstanceContext } from '../instance-context.ts';
import { logTransactions } from '../log/log-transactions.ts';
import { type LogView, partOnTimeline } from '../log/log-view.ts';
import { findEndOf } from '../restore/resolve-target.ts';
import { findDescribedChange } from '../timeline/find-described-change.ts';
import { type LogRun, openInstanceLog } from '../timeline/open-instance-log.ts';
import type { UndoWhat } from './undo-request.ts';

/** A committed transaction, and the log it lies in. */
export interface UndoTarget {
  readonly transaction: WalTransaction;
  readonly view: LogView;
  /** The log is whole from here to the transaction's end. */
  readonly from: bigint;
  /** Where it begins, if that is known. */
  readonly begin: bigint | null;
  /** What is known of it as a disaster; null when nothing is. */
  readonly incident: Incident | null;
}

/**
 * Finds the transaction that is to be undone in the log, what the server has not archived yet included.
 *
 * @throws INCIDENT_NOT_FOUND, LOG_NOT_FOUND, TARGET_AMBIGUOUS; TARGET_UNREACHABLE when it was not committed; UNDO_REFUSED
 */
export async function findUndoTarget(
  context: InstanceContext,
  what: UndoWhat,
  signal: AbortSignal,
): Promise<UndoTarget> {
  const named = what.kind === 'incident' ? await readIncident(context, what.id, { signal }) : null;
  if (named !== null) refuseRateIncident(named, 'UNDO_REFUSED');
  const { view, runs } = await openInstanceLog(context, null, signal);
  const { systemIdentifier } = view.owner;
  if (named !== null && named.systemIdentifier !== systemIdentifier) {
    throw new AppError(
      'UNDO_REFUSED',
      `unable to undo incident '${named.id}': it happened to another database system than the instance is now`,
      { hint: 'Give the transaction with --xid if it is in this one too.' },
    );
  }
  if (named !== null) refuseLeft(named, view);
  const { transaction, run } = await findCommit(context, { what, incident: named, view, runs }, signal);
  const incident =
    named ??
    (await readIncidents(context, { signal })).findLast(
      each =>
        each.systemIdentifier === systemIdentifier &&
        !isRateIncident(each) &&
        isOf(each.transaction, transaction, view),
    ) ??
    null;
  const begin = incident?.transaction.beginLsn ?? null;
  return { transaction, view, from: run.from, begin: begin === null ? null : parseLsn(begin), incident };
}

/** After a recovery numbers are given out again: an incident tells of a transaction only where that lies on its timeline. */
function isOf(told: Incident['transaction'], { xid, lsn }: WalTransaction, view: LogView): boolean {
  const part = partOnTimeline(view, told.timeline);
  if (told.xid !== xid || part === null || lsn < part.begin || (part.left !== null && lsn >= part.left))
    return false;
  return told.endLsn === null || told.endLsn === formatLsn(lsn);
}

/** @throws UNDO_REFUSED a recovery has gone back to before it */
function refuseLeft({ id, transaction }: Incident, view: LogView): void {
  const { timeline, outcome, endLsn } = transaction;
  const part = partOnTimeline(view, timeline);
  const end = outcome === 'committed' && endLsn !== null ? parseLsn(endLsn) : null;
  if (part !== null && (part.left === null || end === null || end < part.left)) return;
  throw new AppError(
    'UNDO_REFUSED',
    `unable to undo incident '${id}': it is not part of the history that the instance is on, as it happened on timeline ${timeline}, after that was left`,
    { hint: 'A recovery has gone back to before it already: what it destroyed should be there.' },
  );
}

interface Search {
  readonly what: UndoWhat;
  readonly incident: Incident | null;
  readonly view: LogView;
  readonly runs: readonly LogRun[];
}

async function findCommit(
  context: InstanceContext,
  search: Search,
  signal: AbortSignal,
): Promise<{ readonly transaction: WalTransaction; readonly run: LogRun }> {
  const { what, incident, view, runs } = search;
  let missing: unknown = null;
  for (const run of runs.toReversed()) {
    try {
      const log = logTransactions({ ...context, view }, run, signal);
      const at = await positionOf(context, search, run, signal);
      const ends = at === null ? [] : await log.inSegment(segmentStart(at, view.segmentSize));
      const known = ends.find(each => each.lsn === at);
      if (known !== undefined) return { transaction: known, run };
      const xid = what.kind === 'xid' ? what.xid : incident?.transaction.xid;
      const left = incident === null ? null : partOnTimeline(view, incident.transaction.timeline)?.left;
      if (xid !== undefined) return { transaction: await findEndOf(log, xid, left ?? undefined), run };
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'LOG_NOT_FOUND') throw error;
      missing ??= error;
    }
  }
  throw missing ?? new AppError('LOG_NOT_FOUND', 'the transaction is not in the archived log');
}

/** Where the record starts that committed it, in one run of the log; null when only its number is known. */
async function positionOf(
  context: InstanceContext,
  { what, incident, view }: Search,
  run: LogRun,
  signal: AbortSignal,
): Promise<bigint | null> {
  if (what.kind === 'change') {
    const search = { view, from: run.from, to: run.to, change: what.change, command: undoCommand };
    return (await findDescribedChange(context, search, signal)).lsn;
  }
  const end = incident?.transaction.outcome === 'committed' ? incident.transaction.endLsn : null;
  const at = end === null ? null : parseLsn(end);
  return at !== null && segmentStart(at, view.segmentSize) >= run.from && at < run.to ? at : null;
}

function undoCommand(xid: number): string {
  return `aishell backup undo --xid ${xid}`;
}
