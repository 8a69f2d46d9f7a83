import type { RowChange } from './row-changes.ts';
import type { TableName } from './sql-tree.ts';

/**
 * What a statement does, as far as its text tells.
 *
 * `read`: looks, in a transaction that the server keeps read-only; `lock`: reads, and locks rows or tables; `write`: changes
 * rows; `definition`: changes objects; `code`: what it does is known only when it has run; `maintenance`: keeps the data as
 * they are; `setting`: of this session; `transaction`: begins or ends one; `unknown`: none of these.
 */
export type StatementKind =
  | 'read'
  | 'lock'
  | 'write'
  | 'definition'
  | 'code'
  | 'maintenance'
  | 'setting'
  | 'transaction'
  | 'unknown';

export type TransactionControl =
  | 'begin'
  | 'commit'
  | 'rollback'
  | 'prepare'
  | 'savepoint'
  | 'release'
  | 'rollback-to'
  /** COMMIT PREPARED and ROLLBACK PREPARED. */
  | 'end-prepared';

export interface StatementClass {
  readonly kind: StatementKind;
  /** `DELETE`, `DROP TABLE`. */
  readonly command: string;
  readonly changes: readonly RowChange[];
  /** Why it is not run before somebody has confirmed it, as sentences without a full stop; empty where only rows decide. */
  readonly dangers: readonly string[];
  /** What a person should know before it runs. */
  readonly remarks: readonly string[];
  /** PostgreSQL does not run it inside a transaction, so it can be neither tried nor taken back. */
  readonly outside: boolean;
  /** What no rollback takes back; empty where one takes back everything but numbers of sequences. */
  readonly lasting: readonly string[];
  /** Tables and other objects it removes or empties. */
  readonly objects: readonly TableName[];
  readonly control: TransactionControl | null;
  /** What must not be sent at all, and why. */
  readonly refusal: string | null;
  /** Of PREPARE, EXECUTE and DEALLOCATE. */
  readonly prepared: string | null;
  /** Settings of the session it changes; null for one whose name is not known. */
  readonly settings: readonly (string | null)[];
  /** It makes the transaction, or the session, able to write. */
  readonly unlocks: boolean;
  /** Rows or counts come back as a plan: EXPLAIN ANALYZE. */
  readonly explains: boolean;
}

export type Findings = Partial<Omit<StatementClass, 'kind' | 'command'>>;

export function classOf(kind: StatementKind, command: string, findings: Findings = {}): StatementClass {
  return {
    kind,
    command,
    changes: [],
    dangers: [],
    remarks: [],
    outside: false,
    lasting: [],
    objects: [],
    control: null,
    refusal: null,
    prepared: null,
    settings: [],
    unlocks: false,
    explains: false,
    ...findings,
  };
}
