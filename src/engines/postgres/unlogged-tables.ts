import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { queryRows } from './connection.ts';

/**
 * The databases (by oid) of a data directory that have unlogged relations, found by their `_init` forks: without a
 * connection to each, and in all tablespaces.
 */
export async function databasesWithUnlogged(dataDirectory: string): Promise<Set<number>> {
  const found = new Set<number>();
  const look = async (folder: string): Promise<void> => {
    for (const oid of await names(folder)) {
      if (!/^\d+$/.test(oid) || found.has(Number(oid))) continue;
      if ((await names(join(folder, oid))).some(name => /^\d+_init$/.test(name))) found.add(Number(oid));
    }
  };
  await look(join(dataDirectory, 'base'));
  for (const tablespace of await names(join(dataDirectory, 'pg_tblspc'))) {
    const root = join(dataDirectory, 'pg_tblspc', tablespace);
    for (const version of await names(root)) {
      if (/^PG_\d+_\d+$/.test(version)) await look(join(root, version));
    }
  }
  return found;
}

async function names(folder: string): Promise<string[]> {
  const facts = await stat(folder).catch(() => null);
  return facts?.isDirectory() === true ? await readdir(folder).catch(() => []) : [];
}

/** The unlogged tables of this session's database that hold something. */
export async function readUnloggedTables(client: pg.Client): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(client, 'list the unlogged tables', {
    text: `select format('%I.%I.%I', current_database(), n.nspname, c.relname) as name
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relpersistence = 'u' and c.relkind in ('r', 'm') and pg_relation_size(c.oid) > 0 order by 1`,
  });
  return rows.map(row => row.name);
}
