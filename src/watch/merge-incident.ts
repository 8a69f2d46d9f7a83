import type { Incident, IncidentEvent } from '../operations/incident/incident.ts';

/**
 * The stored state of an incident with what the watch knows: the transaction, what it did and what is held for it are the
 * watch's; that it is resolved, and what others have noted, stays.
 */
export function withKnown(stored: Incident, known: Incident): Incident {
  const isResolved = stored.status === 'resolved';
  const { rule, transaction, tables, culprit, severity } = known;
  return {
    ...stored,
    ...{ rule, transaction, tables, culprit, severity },
    status: isResolved ? stored.status : known.status,
    resolution: isResolved ? stored.resolution : known.resolution,
    guard: isResolved ? withoutPutBack(known.guard, stored.guard) : known.guard,
    events: joinEvents(stored.events, known.events),
  };
}

/** Whoever resolves an incident may have put tables back himself. */
function withoutPutBack(known: Incident['guard'], stored: Incident['guard']): Incident['guard'] {
  const autovacuumOff = known.autovacuumOff.filter(table => stored.autovacuumOff.includes(table));
  const snapshot =
    known.snapshot === null || stored.snapshot?.releasedAt == null || known.snapshot.releasedAt !== null
      ? known.snapshot
      : { ...known.snapshot, releasedAt: stored.snapshot.releasedAt };
  const autovacuumBefore = known.autovacuumBefore?.filter(({ table }) => autovacuumOff.includes(table));
  return {
    ...known,
    snapshot,
    autovacuumOff,
    ...(autovacuumBefore === undefined ? {} : { autovacuumBefore }),
  };
}

/** All of both, in the order of their times. */
function joinEvents(a: readonly IncidentEvent[], b: readonly IncidentEvent[]): IncidentEvent[] {
  const keyOf = ({ at, event, text }: IncidentEvent): string => JSON.stringify([at, event, text]);
  const all = new Map([...a, ...b].map(each => [keyOf(each), each]));
  return [...all.values()].sort((left, right) => (left.at < right.at ? -1 : left.at > right.at ? 1 : 0));
}
