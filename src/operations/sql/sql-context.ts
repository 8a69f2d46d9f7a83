import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import type { SqlParser } from '../../engines/postgres/sql/sql-parser.ts';
import type { Column, TextRow } from '../../engines/postgres/sql/stream-statement.ts';
import type { Outlook } from './outlook.ts';
import type { StatementReport } from './statement-report.ts';

/** What the console works with. */
export interface SqlContext {
  readonly instance: string;
  readonly connection: ConnectionSettings;
  readonly parser: SqlParser;
  /** Where the history of statements is kept; null for a user without a home. */
  readonly historyDirectory: string | null;
  /** The operating system's name of who runs it. */
  readonly user: string;
}

export interface SqlSettings {
  /** Null: the instance's own. */
  readonly database: string | null;
  /** More changed rows than this need a confirmation. */
  readonly maxRows: number;
  /** So many rows of a result are shown; null for all. */
  readonly limit: number | null;
  readonly readOnly: boolean;
  /** Everything is confirmed beforehand. */
  readonly confirmed: boolean;
  readonly lockTimeoutMs: number;
  readonly statementTimeoutMs: number;
}

/** What has to be confirmed, with what would be done. */
export interface Question {
  /** As sentences without a full stop. */
  readonly reasons: readonly string[];
  /** What the statement did when it was tried; null for one that cannot be tried. */
  readonly tried: StatementReport | null;
  /** It was confirmed before, and then did something else. */
  readonly changedMeanwhile: boolean;
  /** What has to be typed: the number of rows, or the name of what is removed. */
  readonly phrase: string;
  /** An open transaction of the user's holds its locks while this waits for an answer. */
  readonly holdsLocks: boolean;
}

/** Whoever sits at the console. */
export interface SqlHandlers {
  /** Before a statement runs that changes something. */
  onOutlook(outlook: Outlook): void;
  onNotice(notice: { readonly severity: string; readonly message: string }): void;
  /** Rows of a result, in portions; the next comes when this one was taken. */
  onRows(rows: readonly TextRow[], columns: readonly Column[]): Promise<void>;
  /** `timeout`: nobody answered in time. */
  confirm(question: Question): Promise<'yes' | 'no' | 'timeout' | 'nobody'>;
  /** A confirmed statement is about to run: here the log is before it. */
  onRecoveryPoint(lsn: string): void;
  /** A warning of the console itself. */
  onWarning(message: string): void;
}
