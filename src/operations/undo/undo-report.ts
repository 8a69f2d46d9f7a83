import { formatCount } from '../../base/sizes.ts';
import type { RestoredPart } from '../side/plan-files.ts';

/** Where the rows come from. */
export interface UndoSource {
  /** `snapshot`: one that is held on the server itself; `side instance`: a backup recovered to just before, beside it. */
  readonly kind: 'snapshot' | 'side instance';
  readonly text: string;
  /** How much of the backup; null of a snapshot. */
  readonly restored: RestoredPart | null;
}

/** Why a row that was destroyed is not put back. */
export type LeftReason =
  /** A row with its key was inserted since. */
  | 're-inserted since'
  /** Somebody else has changed it since. */
  | 'changed since'
  /** It was updated, and is not there any more. */
  | 'deleted since'
  /** The transaction changed its key, or another of its unique values, and rows are missing under the old ones. */
  | 'key changed'
  /** The transaction moved it to another partition. */
  | 'moved to another partition'
  /** It was updated, and nothing tells which row it is now. */
  | 'table without a key'
  /** The source does not have it as the transaction found it: others had changed it after the snapshot was taken. */
  | 'not in the source'
  /** A constraint of the table refused it: another row has one of its unique values. */
  | 'refused by a constraint';

export interface LeftRows {
  readonly reason: LeftReason;
  readonly rows: number;
  /** Keys of some of them, as text. */
  readonly keys: readonly string[];
  /** The server's own words, where it refused. */
  readonly message: string | null;
}

/** One table, as it was found before anything was changed, or as it is afterwards. */
export interface UndoTableFacts {
  readonly schema: string;
  readonly table: string;
  /** `rows`: deleted or updated one by one. */
  readonly act: 'rows' | 'truncate' | 'drop';
  /** Rows that the transaction destroyed. */
  readonly destroyed: number;
  /** Of them, updated. */
  readonly updated: number;
  /** They are as they were before. */
  readonly present: number;
  /** Not there; they will be inserted. */
  readonly toInsert: number;
  /** Still as the transaction left them; they will be set back. */
  readonly toSetBack: number;
  readonly left: readonly LeftRows[];
  /** What rows are told apart by; null: by all their values. */
  readonly key: string | null;
}

/** Rows that are left, as a problem. */
export function describeLeft(
  { schema, table }: Pick<UndoTableFacts, 'schema' | 'table'>,
  { reason, rows, message }: LeftRows,
): string {
  return `${schema}.${table}: ${formatCount(rows)} ${rows === 1 ? 'row is' : 'rows are'} left: ${message ?? reason}`;
}

export interface UndoneTable {
  readonly schema: string;
  readonly table: string;
  readonly inserted: number;
  readonly setBack: number;
  /** Of the rows that are now as they were: how many, and the sums of their hashes, made at the source and from the live table. */
  readonly proof: {
    readonly rows: number;
    readonly sourceChecksum: string;
    readonly liveChecksum: string;
    readonly equal: boolean;
  };
}

export interface ReferenceProblem {
  readonly table: string;
  readonly constraint: string;
  readonly referencedTable: string;
  readonly orphans: number;
}

/** What an undo found and did: plain facts for renderers, JSON and tests. */
export interface UndoReport {
  readonly dryRun: boolean;
  readonly instance: string;
  /** Null where none is known of this transaction. */
  readonly incident: string | null;
  readonly transaction: {
    readonly xid: number;
    readonly subtransactions: number;
    readonly committedAt: string;
    /** Where the record that committed it starts. */
    readonly lsn: string;
  };
  readonly database: string;
  readonly source: UndoSource;
  /** As found before; after an undo, with what is left then. */
  readonly tables: readonly UndoTableFacts[];
  /** Tables that the transaction destroyed something of, and that were not asked for. */
  readonly others: readonly string[];
  /** Null after a dry run. */
  readonly undone: readonly UndoneTable[] | null;
  /** Foreign keys that were looked at afterwards; null after a dry run. */
  readonly references: {
    readonly checked: number;
    readonly problems: readonly ReferenceProblem[];
    /** Those that could not be looked at, each with the reason. */
    readonly skipped: readonly string[];
  } | null;
  /** Triggers of users that fire, as they cannot be switched off, or are set to. */
  readonly triggers: readonly string[];
  /** Of putting back what was found. */
  readonly estimatedSeconds: number;
  readonly seconds: {
    /** The transaction and its rows found in the log, the source opened. */
    readonly source: number;
    readonly gather: number;
    readonly merge: number;
    /** With the live table before and after, foreign keys included. */
    readonly compare: number;
  };
  readonly problems: readonly string[];
}
