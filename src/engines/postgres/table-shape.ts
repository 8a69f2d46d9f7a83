import type { QualifiedName } from './catalog-snapshot.ts';
import { queryRows, type Session } from './connection.ts';
import { quoteIdentifier } from './connection-errors.ts';
import type { RelationFile } from './wal-transactions.ts';

export interface TableColumn {
  /** Of the table in pg_attribute: it stays when the column is renamed. */
  readonly number: number;
  readonly name: string;
  /** As SQL writes it. */
  readonly type: string;
  /** As COLLATE takes it; null where its type has none. */
  readonly collation: string | null;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  readonly generated: boolean;
  /** GENERATED ALWAYS AS IDENTITY: an update cannot set it. */
  readonly alwaysIdentity: boolean;
}

/** What tells rows of a table apart: columns that are never null, with a unique index. */
export interface TableKey {
  readonly index: string;
  readonly primary: boolean;
  /** False: it may be violated until a transaction ends, and ON CONFLICT does not see it. */
  readonly immediate: boolean;
  readonly columns: readonly {
    readonly number: number;
    /** As `OPERATOR(pg_catalog.=)` takes it. */
    readonly operator: string;
  }[];
}

/** A table as it is, or was when a snapshot was taken. */
export interface TableShape {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly relation: RelationFile;
  readonly kind: 'table' | 'other';
  /** Of a partition: the partitioned table at the top. */
  readonly partitionOf: QualifiedName | null;
  readonly columns: readonly TableColumn[];
  /** The best one; null where there is none. */
  readonly key: TableKey | null;
  /** Of users, that fire in an ordinary session. */
  readonly triggers: readonly string[];
  /** Of users, that fire even where triggers are switched off. */
  readonly alwaysTriggers: readonly string[];
}

/** `"public"."users"`. */
export function quotedName({ schema, name }: Pick<TableShape, 'schema' | 'name'>): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

interface Row extends Omit<TableShape, 'relation' | 'kind'> {
  readonly kind: string;
  readonly database: number;
  readonly tablespace: number;
  readonly file: number;
}

export type TableChoice =
  | { readonly oids: readonly number[] }
  | { readonly files: readonly number[] }
  /** As {@link quotedName} writes them. */
  | { readonly names: readonly string[] };

/**
 * Tables as the session's snapshot sees them, by their numbers, their files or their names. What is not there is left out; catalogs and
 * TOAST tables are.
 */
export async function readTableShapes(
  session: Session,
  by: TableChoice,
  signal: AbortSignal,
): Promise<TableShape[]> {
  const [condition, values] = conditionOf(by);
  const rows = await queryRows<Row>(session, 'read what the tables are like', {
    text: `${shapesSql} and ${condition} order by c.oid`,
    values: [values],
    signal,
  });
  return rows.map(({ database, tablespace, file, ...row }) => ({
    ...row,
    kind: row.kind === 'r' ? 'table' : 'other',
    relation: { tablespace, database, file },
  }));
}

function conditionOf(by: TableChoice): readonly [sql: string, values: readonly (number | string)[]] {
  if ('oids' in by) return ['c.oid = any($1::int8[]::oid[])', by.oids];
  if ('files' in by) return ['c.relfilenode = any($1::int8[]::oid[])', by.files];
  return [
    `format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')) = any($1::text[])`,
    by.names,
  ];
}

// Numbers of objects are unsigned, which float8 holds and int4 does not.
const columnsSql = `
  select coalesce(json_agg(json_build_object(
    'number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'notNull', a.attnotnull,
    'collation', (select format('%I.%I', cn.nspname, co.collname) from pg_collation co
                    join pg_namespace cn on cn.oid = co.collnamespace where co.oid = a.attcollation),
    'hasDefault', a.atthasdef or a.attidentity <> '', 'generated', a.attgenerated <> '',
    'alwaysIdentity', a.attidentity = 'a') order by a.attnum), '[]')
  from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped`;

// The primary key first, then what replication goes by, then the smallest.
const keySql = `
  select json_build_object('index', ic.relname, 'primary', i.indisprimary, 'immediate', i.indimmediate, 'columns',
    (select json_agg(json_build_object('number', u.attnum, 'operator', quote_ident(opn.nspname) || '.' || o.oprname)
              order by u.position)
       from unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality u(attnum, opclass, position)
         join pg_opclass oc on oc.oid = u.opclass
         join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
                        and ao.amoprighttype = oc.opcintype and ao.amopstrategy = 3
         join pg_operator o on o.oid = ao.amopopr join pg_namespace opn on opn.oid = o.oprnamespace
       where u.position <= i.indnkeyatts))
  from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam
  where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indexprs is null and i.indpred is null
    and am.amname = 'btree'
    and not exists (select from unnest(i.indkey::int2[]) with ordinality k(attnum, position)
                      join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                    where k.position <= i.indnkeyatts and not a.attnotnull)
  order by i.indisprimary desc, i.indisreplident desc, i.indnkeyatts, ic.relname limit 1`;

const triggersSql = (enabled: string): string => `
  coalesce((select json_agg(t.tgname order by t.tgname) from pg_trigger t
            where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in (${enabled})), '[]')`;

/** @source catalog/pg_class.h, pg_attribute.h, pg_index.h, pg_trigger.h */
const shapesSql = `
  select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
         d.oid::int8::float8 as database, c.relfilenode::int8::float8 as file,
         (case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end)::int8::float8 as tablespace,
         (select json_build_object('schema', pn.nspname, 'name', p.relname) from pg_class p
            join pg_namespace pn on pn.oid = p.relnamespace
          where c.relispartition and p.oid = pg_partition_root(c.oid)) as "partitionOf",
         (${columnsSql}) as columns, (${keySql}) as key,
         ${triggersSql("'O', 'A'")} as triggers, ${triggersSql("'R', 'A'")} as "alwaysTriggers"
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_database d on d.datname = current_database()
  where c.relkind in ('r', 'p', 'm', 'f') and n.nspname not in ('pg_catalog', 'pg_toast', 'information_schema')`;
