import type { TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { Incident, IncidentTable } from '../operations/incident/incident.ts';
import type { FirstSight } from './incident-states.ts';
import type { RuledActor } from './rules.ts';
import type { GuardPolicy } from './watch-settings.ts';

/** What was seen of a transaction that is out of the ordinary. */
export interface Sighting extends Omit<FirstSight, 'at'> {
  readonly database: string;
  /** Rows were deleted or updated: a snapshot that is taken now still sees them. */
  readonly canHold: boolean;
  /** Null: nobody runs it any more. */
  readonly owner: Promise<TransactionOwner | null>;
  /** What is to be done when it is known who does it; null: it is nobody's alarm. */
  readonly judgeFor: (actor: RuledActor | null) => GuardPolicy | null;
}

/** What a transaction did, to the row. */
export interface EndedWith {
  readonly tables: readonly IncidentTable[];
  /** What the rule says now that all is known; null: what it said. */
  readonly rule: Incident['rule'] | null;
}

/** What a session did last, by what its transaction did. */
export const statementWords: Readonly<Record<IncidentTable['act'], string>> = {
  delete: '\\mdelete\\M',
  update: '\\mupdate\\M',
  truncate: '\\mtruncate\\M',
  drop: '\\mdrop\\M',
  rate: '.',
};
