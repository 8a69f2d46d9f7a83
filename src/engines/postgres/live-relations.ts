import type pg from 'pg';
import { FIRST_USER_FILE, type QualifiedName, type RelationKind } from './catalog-snapshot.ts';
import { queryRows } from './connection.ts';
import type { RelationFile } from './wal-transactions.ts';

/** A relation with files, as a running server knows it now. */
export interface LiveRelation extends QualifiedName {
  readonly oid: number;
  readonly relation: RelationFile;
  readonly kind: RelationKind;
  /** Of a partition: the partitioned table at the top. */
  readonly root: (QualifiedName & { readonly oid: number }) | null;
  /** By the counters of the server, else by the planner's estimate; null where neither says anything, and for others than tables. */
  readonly rows: number | null;
}

interface RelationRow {
  oid: number;
  database: number;
  tablespace: number;
  file: number;
  kind: string;
  schema: string;
  name: string;
  root_oid: number | null;
  root_schema: string | null;
  root_name: string | null;
  rows: number | null;
}

const kinds: Readonly<Record<string, RelationKind>> = {
  r: 'table',
  m: 'materialized view',
  i: 'index',
  t: 'toast',
  S: 'sequence',
};

/**
 * None of this waits for a lock on a table: it is asked while somebody truncates or drops one. The catalog of relations
 * itself is the only one of the system's that is listed.
 */
const relationsSql = `
  select c.oid::int8::float8 as oid, d.oid::int8::float8 as database,
         (case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end)::int8::float8 as tablespace,
         (case when c.oid = 'pg_catalog.pg_class'::regclass then pg_relation_filenode(c.oid) else c.relfilenode end)::int8::float8 as file,
         c.relkind::text as kind, n.nspname::text as schema, c.relname::text as name,
         p.oid::int8::float8 as root_oid, pn.nspname::text as root_schema, p.relname::text as root_name,
         case when c.relkind = 'r' then coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0)::float8,
                                                 case when c.reltuples >= 0 then c.reltuples::float8 end) end as rows
  from pg_class c
  join pg_database d on d.datname = current_database()
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_class p on c.relispartition and c.relkind = 'r' and p.oid = pg_partition_root(c.oid)
  left join pg_namespace pn on pn.oid = p.relnamespace
  where c.relkind in ('r', 'm', 'i', 't', 'S') and c.relpersistence <> 't'
    and (c.oid >= ${FIRST_USER_FILE} or c.oid = 'pg_catalog.pg_class'::regclass)`;

/** All relations of the client's database. @throws DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED */
export async function readLiveRelations(client: pg.Client): Promise<LiveRelation[]> {
  return await read(client, { text: relationsSql, values: [] });
}

/** The relation with this file; null when no committed transaction has given it to one. */
export async function findLiveRelation(client: pg.Client, file: number): Promise<LiveRelation | null> {
  const [found] = await read(client, { text: `${relationsSql} and c.relfilenode = $1::oid`, values: [file] });
  return found ?? null;
}

/** The relations with these files, and those with these numbers, whatever their files are now. */
export async function findReplacedRelations(
  client: pg.Client,
  { files, oids }: { readonly files: readonly number[]; readonly oids: readonly number[] },
): Promise<LiveRelation[]> {
  return await read(client, {
    text: `${relationsSql} and (c.relfilenode = any ($1::int8[]::oid[]) or c.oid = any ($2::int8[]::oid[]))`,
    values: [files, oids],
  });
}

/** The relations whose rows in the catalog of relations stand at these places. */
export async function findRelationsAt(client: pg.Client, ctids: readonly string[]): Promise<LiveRelation[]> {
  return await read(client, { text: `${relationsSql} and c.ctid = any ($1::tid[])`, values: [ctids] });
}

async function read(
  client: pg.Client,
  query: { readonly text: string; readonly values: readonly unknown[] },
): Promise<LiveRelation[]> {
  const rows = await queryRows<RelationRow>(client, 'list the relations', query);
  return rows.map(row => ({
    oid: row.oid,
    relation: { tablespace: row.tablespace, database: row.database, file: row.file },
    kind: kinds[row.kind] ?? 'table',
    schema: row.schema,
    name: row.name,
    root:
      row.root_oid === null || row.root_schema === null || row.root_name === null
        ? null
        : { oid: row.root_oid, schema: row.root_schema, name: row.root_name },
    rows: row.rows,
  }));
}

export interface LiveDatabase {
  readonly oid: number;
  readonly name: string;
  readonly allowed: boolean;
}

/** The databases of the server, templates included. */
export async function listLiveDatabases(client: pg.Client): Promise<LiveDatabase[]> {
  // datconnlimit -2 marks what an interrupted DROP DATABASE left.
  return await queryRows<LiveDatabase>(client, 'list the databases', {
    text: `select oid::int8::float8 as oid, datname::text as name, datallowconn and datconnlimit <> -2 as allowed
           from pg_database`,
  });
}

/**
 * Databases that somebody wants for himself, to drop, rename or copy them.
 * @source commands/dbcommands.c: createdb locks its template with ShareLock, the others with AccessExclusiveLock
 */
export async function listLockedDatabases(client: pg.Client): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(client, 'list the databases that are locked', {
    text: `select d.datname::text as name from pg_locks l join pg_database d on d.oid = l.objid
           where l.locktype = 'object' and l.classid = 'pg_catalog.pg_database'::regclass
             and l.mode in ('ShareLock', 'AccessExclusiveLock')`,
  });
  return rows.map(({ name }) => name);
}
