/** What the guard does about what the watch has seen; `cancel` holds as well. */
export type GuardPolicy = 'alert' | 'hold' | 'cancel';

/** What is out of the ordinary, and what is done about it: the section `watch` of the configuration. */
export interface WatchSettings {
  readonly enabled: boolean;
  readonly policy: GuardPolicy;
  /** So many rows of one table, deleted or updated by one transaction. */
  readonly rows: number;
  /** Such a part of a table, 0 to 1; null: no part is too large. */
  readonly share: number | null;
  /** The share counts from so many rows on. */
  readonly shareRows: number;
  /** A table with at least so many rows is not truncated or dropped without an alert. */
  readonly lostTableRows: number;
  /** Whether the usual rate of change of each table is learned. */
  readonly rate: boolean;
  readonly tables: readonly TableLimits[];
  readonly roles: readonly RoleLimits[];
  readonly allow: readonly Allowance[];
  /** A snapshot is kept no longer. */
  readonly holdForMs: number;
  /** Nor is it kept when so much log was written since, which is the most that vacuum could not remove. */
  readonly holdLimitBytes: number;
  /** Whether notifications carry the text of the statement. */
  readonly showQuery: boolean;
}

interface Limits {
  readonly rows: number | null;
  /** Undefined: as for all others. */
  readonly share?: number | null;
  readonly policy: GuardPolicy | null;
}

export interface TableLimits extends Limits {
  /** `schema.table`, `table` or `database.schema.table`, with `*` for any characters. */
  readonly table: string;
}

export interface RoleLimits extends Limits {
  readonly role: string;
}

/** What is nobody's alarm: all that it names must be so. An empty list names nothing. */
export interface Allowance {
  readonly tables: readonly string[];
  readonly roles: readonly string[];
  readonly applications: readonly string[];
  /** Minutes of the day, in UTC; one that ends before it begins goes over midnight. */
  readonly between: { readonly fromMinute: number; readonly toMinute: number } | null;
}
