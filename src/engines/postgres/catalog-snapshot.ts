import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows } from './connection.ts';
import { parseLsn } from './lsn.ts';
import type { RelationFile } from './wal-transactions.ts';

/** Objects of users have numbers from here on; what lies below was made by initdb. @source access/transam.h, FirstNormalObjectId */
export const FIRST_USER_FILE = 16_384;

export type RelationKind = 'table' | 'materialized view' | 'index' | 'toast' | 'sequence';

export interface QualifiedName {
  readonly schema: string;
  readonly name: string;
}

/** What a relation's files were called when a snapshot was taken. */
export interface CatalogRelation extends QualifiedName {
  readonly relation: RelationFile;
  readonly kind: RelationKind;
  /** The table that an index or a TOAST relation belongs to (of an index of a TOAST relation: the table itself). */
  readonly table: QualifiedName | null;
  /** Of a partition: the partitioned table at the top. */
  readonly partitionOf: QualifiedName | null;
  /** The planner's estimate, so it may be stale; null when the table was never analysed. */
  readonly estimatedRows: number | null;
}

export interface CatalogDatabase {
  readonly oid: number;
  readonly name: string;
  /** Why its relations are not known; null when they are. */
  readonly skipped: string | null;
}

/** Where in the log of which system. */
export interface CatalogPlace {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly lsn: bigint;
}

/**
 * Which files belong to which relations: temporary ones are left out, and catalogs in the files that initdb gave them.
 * Everything that was committed before its position is in it; a little of what came after may be.
 */
export interface CatalogSnapshot extends CatalogPlace {
  readonly databases: readonly CatalogDatabase[];
  readonly relations: readonly CatalogRelation[];
}

interface PlaceRow {
  system: string;
  timeline: number;
  lsn: string;
}

interface RelationRow {
  database: number;
  tablespace: number;
  file: number;
  kind: string;
  schema: string;
  name: string;
  table_schema: string | null;
  table_name: string | null;
  top_schema: string | null;
  top_name: string | null;
  rows: number | null;
}

const kinds = new Map<string, RelationKind>([
  ['r', 'table'],
  ['m', 'materialized view'],
  ['i', 'index'],
  ['t', 'toast'],
  ['S', 'sequence'],
]);

/**
 * Asks every database of a running server for its relations, one statement each. A database that cannot be connected to
 * is in the answer by its name.
 *
 * @throws DATABASE_UNREACHABLE, DATABASE_DENIED, DATABASE_FAILED; the signal's reason when cancelled
 */
export async function readCatalog(
  connect: (database?: string) => Promise<pg.Client>,
  signal: AbortSignal,
): Promise<CatalogSnapshot> {
  const place = await readCatalogPlace(connect, signal);
  const databases = await withClient(connect, undefined, client =>
    queryRows<{ oid: number; name: string; allowed: boolean }>(client, 'list the databases', {
      text: databasesSql,
      signal,
    }),
  );
  const relations: CatalogRelation[] = [];
  const listed: CatalogDatabase[] = [];
  let shared = true;
  for (const { oid, name, allowed } of databases) {
    if (!allowed) {
      listed.push({ oid, name, skipped: 'it allows no connections' });
      continue;
    }
    try {
      const rows = await withClient(connect, name, client =>
        queryRows<RelationRow>(client, `list the relations of database '${name}'`, {
          text: relationsSql,
          values: [FIRST_USER_FILE, shared],
          signal,
        }),
      );
      relations.push(...rows.map(relationOf));
      listed.push({ oid, name, skipped: null });
      // Every database lists the relations that all of them share.
      shared = false;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError)) throw error;
      listed.push({ oid, name, skipped: error.message });
    }
  }
  return { ...place, databases: listed, relations };
}

/** Which system a running server is, and where its log is now. @throws as {@link readCatalog} */
export async function readCatalogPlace(
  connect: (database?: string) => Promise<pg.Client>,
  signal: AbortSignal,
): Promise<CatalogPlace> {
  const row = await withClient(connect, undefined, client =>
    queryRow<PlaceRow>(client, 'read the position of the server', { text: placeSql, signal }),
  );
  return { systemIdentifier: row.system, timeline: row.timeline, lsn: parseLsn(row.lsn) };
}

async function withClient<T>(
  connect: (database?: string) => Promise<pg.Client>,
  database: string | undefined,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(database);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

function relationOf(row: RelationRow): CatalogRelation {
  return {
    relation: { tablespace: row.tablespace, database: row.database, file: row.file },
    kind: kinds.get(row.kind) ?? 'table',
    schema: row.schema,
    name: row.name,
    table: nameOf(row.table_schema, row.table_name),
    partitionOf: nameOf(row.top_schema, row.top_name),
    estimatedRows: row.rows === null || row.rows < 0 ? null : row.rows,
  };
}

function nameOf(schema: string | null, name: string | null): QualifiedName | null {
  return schema === null || name === null ? null : { schema, name };
}

const placeSql = `
  select (select system_identifier::text from pg_control_system()) as system,
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn,
         case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
              else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end as timeline`;

// datconnlimit -2 marks what an interrupted DROP DATABASE left.
const databasesSql = `
  select oid::int8::float8 as oid, datname as name, datallowconn and datconnlimit <> -2 as allowed
  from pg_database order by oid`;

// pg_relation_filenode() also knows the mapped catalogs, whose relfilenode is 0.
const relationsSql = `
  with own as (select oid, dattablespace from pg_database where datname = current_database()),
  filed as (
    select c.*, pg_relation_filenode(c.oid) as file, i.indrelid
    from pg_class c left join pg_index i on i.indexrelid = c.oid
    where c.relkind in ('r', 'm', 'i', 't', 'S') and c.relpersistence <> 't' and ($2 or not c.relisshared)
  )
  select (case when f.relisshared then 0 else own.oid end)::int8::float8 as database,
         (case when f.reltablespace = 0 then own.dattablespace else f.reltablespace end)::int8::float8 as tablespace,
         f.file::int8::float8 as file, f.relkind::text as kind, n.nspname as schema, f.relname as name,
         tn.nspname as table_schema, t.relname as table_name, pn.nspname as top_schema, p.relname as top_name,
         case when f.relkind in ('r', 'm') then f.reltuples::float8 end as rows
  from filed f
  cross join own
  join pg_namespace n on n.oid = f.relnamespace
  left join pg_class o on o.reltoastrelid = coalesce(f.indrelid, f.oid) and o.reltoastrelid <> 0
  left join pg_class t on t.oid = coalesce(o.oid, f.indrelid)
  left join pg_namespace tn on tn.oid = t.relnamespace
  left join pg_class p on f.relispartition and f.relkind = 'r' and p.oid = pg_partition_root(f.oid)
  left join pg_namespace pn on pn.oid = p.relnamespace
  where f.file >= $1
  order by 1, 3`;
