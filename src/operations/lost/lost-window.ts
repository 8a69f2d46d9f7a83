import { nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import { readIncidents } from '../incident/incident-store.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogSource, logTransactions } from '../log/log-transactions.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { isBeforeTransaction } from '../restore/recovery-request.ts';
import type { LostRequest } from './export-lost-request.ts';
import type { LostWindow } from './read-lost-rows.ts';

/** From the target to where the log ends, or to a time; and what of it is the disaster. */
export async function findWindow(
  context: InstanceContext,
  plan: RecoveryPlan,
  request: LostRequest,
  signal: AbortSignal,
): Promise<LostWindow> {
  const { backup, resolved, view } = plan;
  const begin = parseLsn(backup.startLsn);
  const end = view.firstMissing(begin);
  const from = plan.toBackupEnd ? parseLsn(backup.stopLsn) : (resolved.lsn ?? end);
  const excluded = new Set(request.excluded);
  const { target } = request;
  // Of DROP DATABASE others may be dropped before it.
  const isNamed = target.kind === 'incident' || target.kind === 'xid';
  if (isBeforeTransaction(target)) {
    const xid = isNamed ? target.xid : resolved.firstDropped?.xid;
    if (xid !== undefined) excluded.add(xid);
  }
  for (const xid of await incidentsIn(context, plan, from)) excluded.add(xid);
  const to =
    request.toUs === null
      ? end
      : await firstBehind({ ...context, view }, { from, to: end }, request.toUs, signal);
  return { begin, from, to, excluded };
}

/** The transactions of incidents that happened behind the target. */
async function incidentsIn(context: InstanceContext, plan: RecoveryPlan, from: bigint): Promise<number[]> {
  const { view } = plan;
  return (await readIncidents(context))
    .filter(({ systemIdentifier, transaction }) => {
      const { timeline, endLsn, outcome } = transaction;
      const isHere =
        systemIdentifier === view.owner.systemIdentifier &&
        view.chain.some(step => step.timeline === timeline);
      return isHere && outcome === 'committed' && endLsn !== null && parseLsn(endLsn) >= from;
    })
    .map(({ transaction }) => transaction.xid);
}

/** Where the first commit later than a time is; the end where there is none. */
async function firstBehind(
  source: LogSource,
  range: { readonly from: bigint; readonly to: bigint },
  timeUs: bigint,
  signal: AbortSignal,
): Promise<bigint> {
  const log = logTransactions(source, range, signal);
  const { view } = source;
  for (let at = segmentStart(range.from, view.segmentSize); at < range.to; ) {
    const later = (await log.inSegment(at)).find(
      each => each.lsn >= range.from && each.kind.startsWith('commit') && each.timeUs > timeUs,
    );
    if (later !== undefined) return later.lsn;
    at = nextSegment(at, view.segmentSize);
  }
  return range.to;
}
