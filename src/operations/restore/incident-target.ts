import { AppError } from '../../base/errors.ts';
import { formatLsn, nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import { describeDamage } from '../incident/describe-damage.ts';
import { readIncident } from '../incident/incident-store.ts';
import { refuseRateIncident } from '../incident/rate-incident.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogSource, logTransactions } from '../log/log-transactions.ts';
import { partOnTimeline } from '../log/log-view.ts';
import type { RecoveryRequest } from './recovery-request.ts';
import type { FoundCommit, UnplacedTransaction } from './resolve-target.ts';

type IncidentRequest = Extract<RecoveryRequest, { kind: 'incident' }>;

/**
 * Just before the transaction of an incident, as it is on record.
 *
 * @throws INCIDENT_NOT_FOUND; TARGET_UNREACHABLE it destroyed nothing, or is about many transactions
 */
export async function incidentTarget(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  id: string,
  signal: AbortSignal,
): Promise<IncidentRequest> {
  const incident = await readIncident(context, id, { signal });
  refuseRateIncident(incident, 'TARGET_UNREACHABLE');
  const { xid, timeline, endLsn, outcome } = incident.transaction;
  if (outcome === 'rolled back') {
    throw new AppError(
      'TARGET_UNREACHABLE',
      `the transaction of incident '${incident.id}' was rolled back: it destroyed nothing`,
      { hint: 'Nothing has to be restored.' },
    );
  }
  return {
    kind: 'incident',
    id: incident.id,
    xid,
    timeline,
    // What is known of one that was running or prepared when it was seen last is not where it ended.
    lsn: outcome === 'committed' && endLsn !== null ? parseLsn(endLsn) : null,
    systemIdentifier: incident.systemIdentifier,
    found: `transaction ${xid}: ${describeDamage(incident).join('; ')}`,
  };
}

/**
 * The commit of an incident's transaction in the log that is followed.
 *
 * @throws TARGET_UNREACHABLE the log that is followed does not have it, as after a recovery to before it
 */
export async function commitOfIncident(
  source: LogSource,
  request: IncidentRequest,
  signal: AbortSignal,
): Promise<FoundCommit | UnplacedTransaction> {
  const { view } = source;
  const { id, xid, timeline, lsn, found } = request;
  if (request.systemIdentifier !== view.owner.systemIdentifier) throw ofAnotherHistory(request, null);
  const part = partOnTimeline(view, timeline);
  if (part === null) throw ofAnotherHistory(request, timeline);
  const { left } = part;
  if (lsn === null) return { kind: 'xid', xid, after: false, ...(left === null ? {} : { before: left }) };
  if (left !== null && lsn >= left) throw ofAnotherHistory(request, timeline);
  const at = segmentStart(lsn, view.segmentSize);
  const next = nextSegment(at, view.segmentSize);
  if (view.nameAt(at) === null) throw notThere(id, lsn);
  const to = view.nameAt(next) === null ? (view.reachAt(at) ?? next) : nextSegment(next, view.segmentSize);
  const ends = await logTransactions(source, { from: at, to }, signal).inSegment(at);
  const commit = ends.find(each => each.lsn === lsn && each.xid === xid);
  if (commit === undefined) throw notThere(id, lsn);
  return { kind: 'commit', lsn, endLsn: commit.endLsn, after: false, found };
}

function ofAnotherHistory({ id }: IncidentRequest, timeline: number | null): AppError {
  return new AppError(
    'TARGET_UNREACHABLE',
    `incident '${id}' is not part of the history that the instance is on: it happened ${timeline === null ? 'in another database system' : `on timeline ${timeline}, after that was left`}`,
    {
      hint:
        timeline === null
          ? 'Check which server `connection` of the instance leads to.'
          : `A recovery has gone back to before it already. To follow the old history all the same: --timeline ${timeline}`,
    },
  );
}

function notThere(id: string, lsn: bigint): AppError {
  return new AppError(
    'TARGET_UNREACHABLE',
    `the log does not hold the transaction of incident '${id}' at ${formatLsn(lsn)}`,
    { hint: 'Is that part of the log archived? `aishell backup timeline` shows what there is.' },
  );
}
