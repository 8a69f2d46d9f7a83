import { quoteIdentifier } from './connection-errors.ts';
import { ask, checkObject, type Session } from './database-checks-run.ts';

/** Findings of one table beyond this many say nothing new. */
const MAX_FINDINGS = 20;

interface Relation {
  readonly oid: string;
  readonly name: string;
}

/**
 * Checks every valid B-tree of the database with amcheck, catalogs included, small ones first, so that within a short
 * time as many as possible are checked. False when amcheck is not installed in this database.
 *
 * bt_index_check takes a lock that disturbs no one and works on a standby; bt_index_parent_check does neither.
 * @source PostgreSQL manual, "amcheck"
 */
export async function checkIndexes(session: Session, heapAllIndexed: boolean): Promise<boolean> {
  const schema = await amcheckSchema(session);
  if (schema === null) return false;
  // Unlogged ones cannot be read during recovery, and come back empty after it.
  const indexes = await ask<Relation>(session, 'list the indexes', {
    text: `select i.indexrelid::text as oid, format('%I.%I', n.nspname, c.relname) as name
           from pg_index i join pg_class c on c.oid = i.indexrelid
             join pg_namespace n on n.oid = c.relnamespace join pg_am a on a.oid = c.relam
           where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p' and i.indisready and i.indisvalid
           order by pg_relation_size(c.oid), c.oid`,
  });
  session.result.total += indexes.length;
  for (const { oid, name } of indexes) {
    await checkObject(session, name, async run => {
      await run({
        text: `select ${schema}.bt_index_check($1::oid::regclass, $2::boolean)`,
        values: [oid, heapAllIndexed],
      });
      return [];
    });
  }
  return true;
}

/** Checks the structure of every table of the database with amcheck, small ones first; nothing where it is not installed. */
export async function checkTables(session: Session): Promise<void> {
  const schema = await amcheckSchema(session);
  if (schema === null) return;
  const tables = await ask<Relation>(session, 'list the tables', {
    text: `select c.oid::text, format('%I.%I', n.nspname, c.relname) as name
           from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_am a on a.oid = c.relam
           where c.relkind in ('r', 'm', 't') and c.relpersistence = 'p' and a.amname = 'heap'
           order by pg_relation_size(c.oid), c.oid`,
  });
  session.result.total += tables.length;
  for (const { oid, name } of tables) {
    await checkObject(session, name, async run => {
      const found = await run<{ block: string; message: string }>({
        text: `select blkno::text as block, msg as message from ${schema}.verify_heapam($1::oid::regclass) limit ${MAX_FINDINGS}`,
        values: [oid],
      });
      return found.map(({ block, message }) => `block ${block}: ${message}`);
    });
  }
}

async function amcheckSchema(session: Session): Promise<string | null> {
  const [row] = await ask<{ name: string }>(session, 'look for amcheck', {
    text: `select n.nspname as name from pg_extension e join pg_namespace n on n.oid = e.extnamespace
           where e.extname = 'amcheck'`,
  });
  return row === undefined ? null : quoteIdentifier(row.name);
}
