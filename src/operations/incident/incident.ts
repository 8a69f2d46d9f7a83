import { AppError } from '../../base/errors.ts';
import type { AutovacuumBefore } from '../../engines/postgres/table-autovacuum.ts';

/** What destroyed data, or seems to. */
export const incidentActs = ['delete', 'update', 'truncate', 'drop', 'rate'] as const;
export type IncidentAct = (typeof incidentActs)[number];

/** What one transaction did to one table. */
export interface IncidentTable {
  readonly act: IncidentAct;
  readonly database: string;
  /** Null where the names were not known: then `table` says which file it was. */
  readonly schema: string | null;
  readonly table: string;
  /** Of the table in pg_class; null where it is not known. */
  readonly oid: number | null;
  /** Rows that were destroyed: so far, while the transaction runs; null where nobody can say, as of a TRUNCATE. */
  readonly rows: number | null;
  /** How many there were before; an estimate of the server's unless it is exact. */
  readonly rowsBefore: number | null;
}

/** The transaction that did it. */
export interface IncidentTransaction {
  /** Lower 32 bits, as in the log. */
  readonly xid: number;
  readonly timeline: number;
  /** Where its first record lies, as PostgreSQL writes it: 0/5E1FFF10. Null where it was not seen. */
  readonly beginLsn: string | null;
  /** Where the record that ends it starts: a recovery to there, exclusive, is one to just before. */
  readonly endLsn: string | null;
  readonly outcome: 'running' | 'committed' | 'rolled back' | 'prepared';
  /** Of its end. ISO 8601 with microseconds, in UTC. */
  readonly endedAt: string | null;
}

/** Who did it, as the server's `pg_stat_activity` said in that moment. */
export interface IncidentCulprit {
  readonly pid: number;
  readonly role: string | null;
  readonly application: string | null;
  readonly client: string | null;
  readonly database: string | null;
  readonly query: string | null;
  readonly queryStartedAt: string | null;
  readonly transactionStartedAt: string | null;
}

/** A snapshot that still sees the old rows, kept open by the agent. */
export interface HeldSnapshot {
  /** As `pg_export_snapshot()` named it; for `SET TRANSACTION SNAPSHOT`. */
  readonly name: string;
  readonly database: string;
  readonly heldSince: string;
  /** Until when it is kept, if nobody releases it before. */
  readonly heldUntil: string;
  /** When it was let go; null while it is held. */
  readonly releasedAt: string | null;
}

/** One recovery to just before it, as the program that made it has seen it. Times are ISO 8601 in UTC. */
export interface IncidentRecovery {
  readonly startedAt: string;
  /** Null: it was not running, or a copy was made beside it. */
  readonly serverStoppedAt: string | null;
  /** When the instance took queries again; null for a copy. */
  readonly onlineAt: string | null;
  readonly finishedAt: string;
  readonly mode: 'in-place' | 'directory';
  readonly way: 'rewind' | 'full' | null;
  readonly backupId: string;
  /** The last transaction that was kept. */
  readonly lastKeptAt: string | null;
  /** What others committed behind the target, and is gone with it; null where it was not counted. */
  readonly lost: {
    readonly transactions: number;
    readonly tables: readonly {
      readonly database: string | null;
      readonly schema: string | null;
      readonly table: string;
      readonly inserted: number;
      readonly updated: number;
      readonly deleted: number;
    }[];
    readonly lastAt: string | null;
  } | null;
  /** Where the state from before it is kept. */
  readonly safetyPath: string | null;
}

/** A table whose autovacuum was switched off, with the settings it had before. */
export interface AutovacuumRecord extends AutovacuumBefore {
  readonly database: string;
}

/** What happened when, for people and for the report. */
export interface IncidentEvent {
  /** ISO 8601 in UTC, milliseconds or better. */
  readonly at: string;
  /** A stable word: `detected`, `held`, `cancelled`, `committed`, `alerted`, `writes stopped`, `backup`, `undone`, … */
  readonly event: string;
  readonly text: string;
}

/** One disaster, as it is known so far. */
export interface Incident {
  readonly format: 1;
  readonly id: string;
  readonly sequence: number;
  readonly instance: string;
  readonly systemIdentifier: string;
  readonly toolVersion: string;
  readonly severity: 'warning' | 'critical';
  readonly status: 'open' | 'resolved';
  readonly resolution: string | null;
  readonly detectedAt: string;
  readonly updatedAt: string;
  /** Which rule saw it, what it counted and what it allows, and how sure it is. */
  readonly rule: {
    readonly name: string;
    readonly explanation: string;
    readonly confidence: 'certain' | 'likely' | 'possible';
  };
  readonly transaction: IncidentTransaction;
  readonly tables: readonly IncidentTable[];
  readonly culprit: IncidentCulprit | null;
  readonly guard: {
    readonly policy: 'alert' | 'hold' | 'cancel';
    readonly snapshot: HeldSnapshot | null;
    /** Tables whose autovacuum was switched off, quoted as SQL writes them, until the incident is resolved. */
    readonly autovacuumOff: readonly string[];
    readonly cancelled: boolean;
    /** Of the same tables, what is put back; left out where there are none. */
    readonly autovacuumBefore?: readonly AutovacuumRecord[];
  };
  readonly events: readonly IncidentEvent[];
  /** Left out: none was made. */
  readonly recoveries?: readonly IncidentRecovery[];
}

const INCIDENT_ID = /^incident_\d{8}_\d{6}_[0-9a-f]{6}$/;

export function isIncidentId(text: string): boolean {
  return INCIDENT_ID.test(text);
}

/** `incident_20271027_140023_abc123`: sorts by time. */
export function newIncidentId(now: Date, random: Uint8Array): string {
  const digits = now.toISOString().replace(/[-:]/g, '');
  return `incident_${digits.slice(0, 8)}_${digits.slice(9, 15)}_${Buffer.from(random.subarray(0, 3)).toString('hex')}`;
}

/** @throws CORRUPT UNSUPPORTED */
export function parseIncident(value: unknown, what: string): Incident {
  const incident = value as Incident | null;
  if (incident === null || typeof incident !== 'object' || !isIncidentId(String(incident.id)))
    throw new AppError('CORRUPT', `unable to read ${what}: it is not an incident`);
  if (incident.format !== 1) {
    throw new AppError('UNSUPPORTED', `unable to read ${what}: it has format ${incident.format}`, {
      hint: 'A newer aishell has written it. Use that one.',
    });
  }
  return incident;
}
