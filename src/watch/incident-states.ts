import { randomBytes } from 'node:crypto';
import { formatCount } from '../base/sizes.ts';
import { formatLsn, parseLsn } from '../engines/postgres/lsn.ts';
import type { TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import type { ChannelOutcome } from '../notify/notify.ts';
import { describeIncident } from '../operations/incident/describe-incident.ts';
import {
  type AutovacuumRecord,
  type Incident,
  type IncidentTable,
  type IncidentTransaction,
  newIncidentId,
} from '../operations/incident/incident.ts';
import { RATE_RULE } from '../operations/incident/rate-incident.ts';
import type { RateFinding } from './baseline.ts';
import type { Hold } from './snapshot-hold.ts';
import type { GuardPolicy } from './watch-settings.ts';

/** Whose incident it is. */
export interface IncidentOrigin {
  readonly instance: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly toolVersion: string;
}

export interface FirstSight {
  readonly at: Date;
  readonly rule: Incident['rule'];
  readonly policy: GuardPolicy;
  readonly tables: readonly IncidentTable[];
  readonly xid: number;
  readonly beginLsn: bigint | null;
  /** It has ended already. */
  readonly isOver: boolean;
}

/** An incident as it is first seen, while its transaction runs. */
export function firstIncident(origin: IncidentOrigin, sight: FirstSight): Incident {
  const { at, rule, policy, tables, xid, beginLsn, isOver } = sight;
  const transaction: IncidentTransaction = {
    ...{ xid, timeline: origin.timeline, endLsn: null, outcome: 'running', endedAt: null },
    beginLsn: beginLsn === null ? null : formatLsn(beginLsn),
  };
  const now = at.toISOString();
  return {
    ...{ format: 1, id: newIncidentId(at, randomBytes(3)), sequence: 1, status: 'open', resolution: null },
    ...{ instance: origin.instance, systemIdentifier: origin.systemIdentifier },
    ...{ toolVersion: origin.toolVersion, severity: 'warning', detectedAt: now, updatedAt: now, rule },
    ...{ transaction, tables, culprit: null },
    guard: { policy, snapshot: null, autovacuumOff: [], cancelled: false },
    events: [
      {
        at: now,
        event: 'detected',
        text: isOver ? rule.explanation : describeIncident({ tables, transaction }),
      },
    ],
  };
}

/** A table changes far more than usual, by however many transactions; `xid` is the last of them. */
export function rateIncident(origin: IncidentOrigin, found: RateFinding, xid: number): Incident {
  const { table, rows, usual, windowMs } = found;
  const { database, schema, table: name, rows: rowsBefore } = table;
  const explanation = `${formatCount(rows)} rows of ${schema}.${name} changed within ${windowMs / 60_000} minutes; at this hour it is usually not more than ${formatCount(Math.round(usual))}`;
  const incident = firstIncident(origin, {
    ...{ at: new Date(), policy: 'alert', xid, beginLsn: null, isOver: true },
    rule: { name: RATE_RULE, explanation, confidence: 'possible' },
    tables: [{ act: 'rate', database, schema, table: name, oid: null, rows, rowsBefore }],
  });
  return { ...incident, transaction: { ...incident.transaction, outcome: 'committed' } };
}

/** The same with something that happened. */
export function withEvent(incident: Incident, event: string, text: string, at = new Date()): Incident {
  return { ...incident, events: [...incident.events, { at: at.toISOString(), event, text }] };
}

/** Who did it. `isLikely`: by what its session did last, as the transaction had ended. */
export function withCulprit(incident: Incident, owner: TransactionOwner, isLikely: boolean): Incident {
  const { state: _state, kind: _kind, topXid: _topXid, ...culprit } = owner;
  const who = `${culprit.role ?? 'somebody'} (${culprit.application ?? 'no application name'}, ${culprit.client ?? 'local'}, process ${culprit.pid})`;
  const text = isLikely
    ? `${who}, most likely: the session whose last statement ended then`
    : `${who} runs the transaction`;
  return withEvent({ ...incident, culprit }, 'identified', text);
}

const outcomes = {
  commit: 'committed',
  'commit prepared': 'committed',
  abort: 'rolled back',
  'abort prepared': 'rolled back',
  prepare: 'prepared',
} as const;

/** Its transaction ended, or was prepared. `tables`: what it did, to the row. */
export function withEnd(incident: Incident, end: WalTransaction, tables: readonly IncidentTable[]): Incident {
  const outcome = outcomes[end.kind];
  const transaction: IncidentTransaction = {
    ...incident.transaction,
    ...{ xid: end.xid, outcome, endLsn: formatLsn(end.lsn), endedAt: isoMicroseconds(end.timeUs) },
  };
  const severity = outcome === 'rolled back' ? 'warning' : 'critical';
  const ended = { ...incident, transaction, tables, severity } satisfies Incident;
  return withEvent(ended, outcome, describeIncident(ended));
}

/** Where its transaction lies in the log, as far as that is known. */
export function knownLsn({ transaction: { beginLsn, endLsn } }: Incident): bigint | null {
  const known = endLsn ?? beginLsn;
  return known === null ? null : parseLsn(known);
}

/** What an agent before this one has left: its snapshot went with it. The same where it held none. */
export function withoutHold(left: Incident): Incident {
  const { snapshot } = left.guard;
  if (snapshot === null || snapshot.releasedAt !== null) return left;
  const at = new Date();
  const guard = { ...left.guard, snapshot: { ...snapshot, releasedAt: at.toISOString() } };
  return withEvent({ ...left, guard }, 'hold lost', 'the snapshot is gone: what held it has ended', at);
}

/** A snapshot is held for it: by the agent, then by a process that outlives it. */
export function withHeld(incident: Incident, { record, outlivesAgent }: Hold): Incident {
  const { name, database, heldSince } = record;
  return outlivesAgent
    ? withEvent(incident, 'held', `a process of its own keeps the snapshot, and outlives the agent: ${name}`)
    : withEvent(
        incident,
        'held',
        `a snapshot of ${database} that sees the old rows is held: ${name}`,
        new Date(heldSince),
      );
}

/** The same with what channels did with an alert; those that know already are not told again. */
export function withAlert(incident: Incident, outcomes: readonly ChannelOutcome[]): Incident {
  const named = (states: readonly ChannelOutcome['state'][]): string =>
    outcomes.flatMap(({ channel, state }) => (states.includes(state) ? [channel] : [])).join(', ');
  const [told, queued] = [named(['delivered']), named(['queued', 'deferred'])];
  const next = told === '' ? incident : withEvent(incident, 'alerted', `people are told: ${told}`);
  return queued === ''
    ? next
    : withEvent(next, 'alert queued', `not delivered yet, and tried again: ${queued}`);
}

/** The same with what is kept on the server for it now. */
export function withGuard(
  incident: Incident,
  { hold, autovacuum }: { readonly hold: Hold | null; readonly autovacuum: readonly AutovacuumRecord[] },
): Incident {
  const guard = {
    ...incident.guard,
    snapshot: hold?.record ?? incident.guard.snapshot,
    autovacuumOff: autovacuum.map(({ table }) => table),
    autovacuumBefore: autovacuum,
  };
  return { ...incident, guard, updatedAt: new Date().toISOString() };
}

/** Nobody has to do anything. */
export function withResolution(incident: Incident, resolution: string): Incident {
  return withEvent({ ...incident, status: 'resolved', resolution }, 'resolved', resolution);
}

function isoMicroseconds(us: bigint): string {
  const ms = new Date(Number(us / 1000n)).toISOString();
  return `${ms.slice(0, -1)}${String(us % 1000n).padStart(3, '0')}Z`;
}
