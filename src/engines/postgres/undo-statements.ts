import { quoteIdentifier } from './connection-errors.ts';
import type { RowPosition } from './row-positions.ts';
import { quotedName, type TableColumn, type TableKey, type TableShape } from './table-shape.ts';

/** What became of a row: `d`eleted, `u`pdated, with other values of a unique index (`k`), `m`oved to another partition. */
export const rowFates = ['d', 'u', 'k', 'm'] as const;
export type RowFate = (typeof rowFates)[number];

/**
 * How a destroyed row is related to the live table. `absent`: its key is not there; `same`: it is there as it was; `own`: as
 * the transaction left it; `changed`: as somebody else made it.
 */
export const rowStates = ['absent', 'same', 'own', 'changed'] as const;
export type RowState = (typeof rowStates)[number];

/** One column in both places, and its place in the staging table. */
export interface CarriedColumn {
  readonly source: TableColumn;
  readonly live: TableColumn;
}

/** A table whose destroyed rows are gathered beside it before they are put back. */
export interface UndoTable {
  readonly source: TableShape;
  readonly live: TableShape;
  readonly columns: readonly CarriedColumn[];
  readonly key: TableKey | null;
  /** The staging table, quoted. It is temporary, and its rows are in the order of the source. */
  readonly staging: string;
}

/** A range of the staging table, in the order of its file; `to` is behind it. */
export interface RowRange {
  readonly from: { readonly page: number; readonly offset: number };
  readonly to: { readonly page: number; readonly offset: number };
}

/** A row's fate and a hash of its values, made where it came from, then its values. */
export function createStagingSql({ staging, columns }: UndoTable): string {
  const carried = columns.map(
    ({ live }, index) =>
      `c${index} ${live.type}${live.collation === null ? '' : ` collate ${live.collation}`}`,
  );
  return `create temporary table ${staging} (${['fate "char"', 'hash int8', ...carried].join(', ')})`;
}

/** Rows at positions, or all of the table, for {@link copyInSql}. */
export function copyOutSql(
  table: Pick<UndoTable, 'source' | 'columns'>,
  fate: RowFate,
  positions: readonly RowPosition[] | null,
): string {
  const columns = table.columns.map(({ source }) => `t.${quoteIdentifier(source.name)}`);
  const places = positions?.map(({ block, offset }) => `"(${block},${offset})"`).join(',');
  const where = places === undefined ? '' : ` where t.ctid = any('{${places}}'::tid[])`;
  const list = [`'${fate}'`, rowHash(columns), ...columns].join(', ');
  return `copy (select ${list} from only ${quotedName(table.source)} t${where}) to stdout`;
}

export function copyInSql({ staging }: UndoTable): string {
  return `copy ${staging} from stdin`;
}

/** Rows by fate and state: `fate`, `state`, `rows`, `checksum` of the source. $1: the transaction's xids. */
export function stateCountsSql(table: UndoTable): string {
  return `select fate, state, count(*)::float8 as rows, sum(hash)::text as checksum,
                 sum("liveHash")::text as "liveChecksum"
          from (${statesSql(table)} offset 0) x group by fate, state`;
}

/** Keys of some rows of a fate and a state ($2, $3), as text. */
export function sampleKeysSql(table: UndoTable, limit: number): string {
  const { key } = table;
  if (key === null) return `select null::text as key where false and $1::xid[] is null and $2 = $3`;
  const columns = key.columns.map(({ number }) => `x.c${placeOf(table, number)}`);
  const text = columns.length === 1 ? `${columns[0]}::text` : `row(${columns.join(', ')})::text`;
  return `select ${text} as key from (${statesSql(table)}) x where fate = $2 and state = $3 limit ${limit}`;
}

function statesSql(table: UndoTable): string {
  const { staging, live, key } = table;
  const hash = rowHash(table.columns.map(column => `l.${quoteIdentifier(column.live.name)}`));
  if (key === null) {
    // Equal rows cannot be told apart: as many of them as were written after the transaction count as back.
    return `
      select s.*, s.hash as "liveHash", case when s.nth <= coalesce(l.rows, 0) then 'same' else 'absent' end as state
      from (select s.*, row_number() over (partition by s.fate, s.hash order by s.ctid) as nth from ${staging} s) s
        left join (select ${hash} as hash, count(*) as rows from only ${quotedName(live)} l
                   where age(l.xmin) <= age(($1::xid[])[1]) group by 1) l on s.fate = 'd' and l.hash = s.hash`;
  }
  // OFFSET keeps the hash from being made once for every place where it is used.
  const first = `l.${quoteIdentifier(columnOf(table, key.columns[0]!.number))}`;
  return `
    select x.*, case when x."isAbsent" then 'absent' when x."liveHash" = x.hash then 'same'
                     when x."isOwn" then 'own' else 'changed' end as state
    from (select s.*, ${first} is null as "isAbsent", l.xmin = any($1::xid[]) as "isOwn",
                 case when ${first} is not null then ${hash} end as "liveHash"
          from ${staging} s left join only ${quotedName(live)} l on ${keyCondition(table)} offset 0) x`;
}

/**
 * Puts back what is not there. With a key.
 *
 * @param plain nothing of it is there, so far as is known: then no row is looked for before it is inserted, which takes a
 * quarter of the time; a row that is there after all makes the statement fail
 */
export function insertSql(
  table: UndoTable,
  range: RowRange,
  how: { readonly fates: readonly RowFate[]; readonly plain: boolean },
): string {
  const { key, live } = table;
  // ON CONFLICT is blind to a key that is only looked at in the end.
  const unless =
    key?.immediate === false
      ? ` and not exists (select from only ${quotedName(live)} l where ${keyCondition(table)})`
      : '';
  const conflict = how.plain ? '' : ' on conflict do nothing';
  return `
    insert into ${target(table)} select ${carriedList(table)}
    from ${table.staging} s where ${within(range)} and ${fateCondition(how.fates)}${unless}${conflict}`;
}

/** Puts back, of a table without a key, the rows that are missing. $1: the transaction's xids. */
export function insertKeylessSql(table: UndoTable): string {
  const list = table.columns.map((_, index) => `x.c${index}`).join(', ');
  return `
    insert into ${target(table)} select ${list}
    from (${statesSql(table)}) x where x.fate = 'd' and x.state = 'absent' on conflict do nothing`;
}

/** Sets back what still is as the transaction left it; null where no column can be set. $1: the transaction's xids. */
export function setBackSql(table: UndoTable, range: RowRange, fates: readonly RowFate[]): string | null {
  const keys = new Set(table.key?.columns.map(({ number }) => number));
  const set = table.columns.flatMap(({ live }, index) =>
    live.alwaysIdentity || keys.has(live.number) ? [] : [`${quoteIdentifier(live.name)} = s.c${index}`],
  );
  if (set.length === 0) return null;
  return `
    update only ${quotedName(table.live)} l set ${set.join(', ')} from ${table.staging} s
    where ${within(range)} and ${fateCondition(fates)} and ${keyCondition(table)} and l.xmin = any($1::xid[])`;
}

function target(table: UndoTable): string {
  const names = table.columns.map(({ live }) => quoteIdentifier(live.name)).join(', ');
  return `${quotedName(table.live)} (${names}) overriding system value`;
}

function carriedList(table: UndoTable): string {
  return table.columns.map((_, index) => `s.c${index}`).join(', ');
}

function within({ from, to }: RowRange): string {
  return `s.ctid >= '(${from.page},${from.offset})' and s.ctid < '(${to.page},${to.offset})'`;
}

function fateCondition(fates: readonly RowFate[]): string {
  return `s.fate = any('{${fates.join(',')}}'::"char"[])`;
}

function keyCondition(table: UndoTable): string {
  return (table.key?.columns ?? [])
    .map(({ number, operator }) => {
      const live = `l.${quoteIdentifier(columnOf(table, number))}`;
      return `${live} operator(${operator}) s.c${placeOf(table, number)}`;
    })
    .join(' and ');
}

function placeOf(table: UndoTable, number: number): number {
  return table.columns.findIndex(({ live }) => live.number === number);
}

function columnOf(table: UndoTable, number: number): string {
  return table.columns[placeOf(table, number)]?.live.name ?? '';
}

/** A hash of a row's values as they are written out, so that it is the same wherever the row is. */
export function rowHash(columns: readonly string[]): string {
  return `hashtextextended(row(${columns.join(', ')})::text collate "C", 0)`;
}
