import { cut, type Notification } from '../notify/notification.ts';
import { describeIncident, describeLoss, worstFirst } from '../operations/incident/describe-incident.ts';
import type { Incident } from '../operations/incident/incident.ts';
import { isRateIncident, rateTimelineCommand } from '../operations/incident/rate-incident.ts';

const TABLES_TOLD = 5;
const QUERY_TOLD = 200;

/** An incident as people are told of it: who, what, how many rows, how sure, and what to do. */
export function incidentNotification(
  incident: Incident,
  { showQuery }: { readonly showQuery: boolean },
): Notification {
  const { id, instance, severity, rule, guard } = incident;
  const isOver = incident.status === 'resolved';
  const dedupKey = `aishell/${instance}/incident/${id}`;
  const facts: (readonly [string, string])[] = [
    ...worstFirst(incident.tables)
      .slice(0, TABLES_TOLD)
      .map(table => [table.database, describeLoss(table)] as const),
    ['Rule', `${rule.name} (${rule.confidence}): ${rule.explanation}`],
    ...(isRateIncident(incident) ? [] : transactionFacts(incident, showQuery)),
    ['Guard', guardText(guard)],
    ['Detected', incident.detectedAt],
    ...(isOver ? [['Resolution', incident.resolution ?? ''] as const] : []),
  ];
  return {
    ...{
      kind: 'incident',
      severity,
      instance,
      facts,
      dedupKey: `aishell/${instance}/incident/${id}`,
      incidentId: id,
    },
    title: titleOf(incident),
    commands: isOver ? [] : commandsFor(incident),
    ...(isOver ? { resolvedOf: dedupKey } : {}),
  };
}

function titleOf(incident: Incident): string {
  const { instance, transaction } = incident;
  const what = describeIncident(incident);
  if (isRateIncident(incident)) return `Unusual changes on ${instance}: ${what}`;
  return transaction.outcome === 'committed' ? `Data loss on ${instance}: ${what}` : `${instance}: ${what}`;
}

function transactionFacts(incident: Incident, showQuery: boolean): (readonly [string, string])[] {
  const { xid, outcome, endedAt } = incident.transaction;
  const end = endedAt === null ? '' : ` at ${endedAt}`;
  return [['Transaction', `${xid}, ${outcome}${end}`], ...whoFacts(incident, showQuery)];
}

function whoFacts({ culprit }: Incident, showQuery: boolean): (readonly [string, string])[] {
  if (culprit === null) return [['Who', 'not known: the session had ended']];
  const { role, application, client, pid, query } = culprit;
  const who = `${role ?? '-'}, ${application ?? 'no application name'}, from ${client ?? 'a local socket'}, process ${pid}`;
  return [
    ['Who', who],
    ...(showQuery && query !== null ? [['Statement', cut(query, QUERY_TOLD)] as const] : []),
  ];
}

/** What keeps the rows from being gone. */
export function guardText(guard: Incident['guard']): string {
  const { policy, snapshot, autovacuumOff, cancelled } = guard;
  const parts: string[] = [];
  if (cancelled) parts.push('the transaction was cancelled');
  if (snapshot !== null)
    parts.push(
      snapshot.releasedAt === null
        ? `a snapshot that sees the old rows is held until ${snapshot.heldUntil}`
        : `the snapshot was released at ${snapshot.releasedAt}`,
    );
  if (autovacuumOff.length > 0) parts.push(`autovacuum is off for ${autovacuumOff.join(', ')}`);
  return parts.length === 0 ? `${policy}: nothing is held` : `${policy}: ${parts.join('; ')}`;
}

/** What to do next, ready to paste. */
export function commandsFor(incident: Incident): Notification['commands'] {
  const { id, instance, transaction } = incident;
  const on = `--instance ${instance}`;
  const stop = { title: 'Stop all writes', command: `aishell emergency stop-writes ${on}` };
  const show = { title: 'Look at it', command: `aishell incident show ${id} ${on}` };
  const resolve = { title: 'When all is well', command: `aishell incident resolve ${id} ${on}` };
  if (transaction.outcome === 'running') return [stop, show];
  if (isRateIncident(incident)) {
    const which = { title: 'See which transactions did it', command: rateTimelineCommand(incident) };
    const undo = {
      title: 'Put back what one of them destroyed',
      command: `aishell backup undo --xid NUMBER ${on}`,
    };
    return [which, stop, undo, show, resolve];
  }
  return [
    stop,
    { title: 'Put the rows back', command: `aishell backup undo ${id} ${on}` },
    { title: 'Or go back to just before', command: `aishell backup restore --before-incident ${id} ${on}` },
    show,
    resolve,
  ];
}
