import type pg from 'pg';
import { queryRow, queryRows } from './connection.ts';

/** What a table's own setting of autovacuum was before it was switched off; null: it had none. */
export interface AutovacuumBefore {
  readonly oid: number;
  /** Quoted as SQL writes it. */
  readonly table: string;
  readonly own: string | null;
  readonly toast: string | null;
}

/** Another session may be at the table for long; it is tried again. */
const LOCK_MS = 2000;

const settingsSql = `
  select c.oid::int8::float8 as oid, format('%I.%I', n.nspname, c.relname) as table,
         (select o.option_value from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled') as own,
         (select o.option_value from pg_options_to_table(t.reloptions) o where o.option_name = 'autovacuum_enabled') as toast
  from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_class t on t.oid = c.reltoastrelid
  where c.relkind = 'r'`;

/** The setting of a table; null when there is no such table. */
export async function readAutovacuum(client: pg.Client, oid: number): Promise<AutovacuumBefore | null> {
  const [found] = await queryRows<AutovacuumBefore>(client, 'read the autovacuum of a table', {
    text: `${settingsSql} and c.oid = $1::oid`,
    values: [oid],
  });
  return found ?? null;
}

/**
 * Switches the autovacuum of a table and of its TOAST relation off, and cancels the one that works on it: what was
 * deleted stays on its pages. It waits two seconds for the lock.
 *
 * @throws DATABASE_FAILED DATABASE_DENIED DATABASE_UNREACHABLE
 */
export async function switchAutovacuumOff(
  client: pg.Client,
  { oid, table }: AutovacuumBefore,
): Promise<void> {
  // Where that is not allowed, the server itself sends it away from a lock that is waited for, a second later.
  await queryRows(client, 'cancel an autovacuum', {
    text: `select pg_cancel_backend(a.pid) from pg_locks l join pg_stat_activity a on a.pid = l.pid
           where a.backend_type = 'autovacuum worker' and l.locktype = 'relation' and l.granted
             and l.database = (select oid from pg_database where datname = current_database())
             and l.relation in (select unnest(array[c.oid, c.reltoastrelid]) from pg_class c where c.oid = $1::oid)`,
    values: [oid],
  }).catch(() => undefined);
  await alter(client, table, 'set (autovacuum_enabled = false, toast.autovacuum_enabled = false)');
}

/**
 * Gives a table back the settings it had, as far as they still are as {@link switchAutovacuumOff} has made them. False
 * when there is no such table any more.
 */
export async function putAutovacuumBack(client: pg.Client, before: AutovacuumBefore): Promise<boolean> {
  const now = await readAutovacuum(client, before.oid);
  if (now === null) return false;
  for (const [key, was, is] of [
    ['autovacuum_enabled', before.own, now.own],
    ['toast.autovacuum_enabled', before.toast, now.toast],
  ] as const) {
    if (is !== 'false' || was === 'false') continue;
    await alter(
      client,
      now.table,
      was === null ? `reset (${key})` : `set (${key} = ${await literal(client, was)})`,
    );
  }
  return true;
}

/** In a transaction that says that it writes: writes may be stopped, and this is what was put on record to be changed. */
async function alter(client: pg.Client, table: string, change: string): Promise<void> {
  const doing = `change the autovacuum of ${table}`;
  try {
    await queryRows(client, doing, { text: 'begin read write' });
    await queryRows(client, doing, { text: `set local lock_timeout = ${LOCK_MS}` });
    await queryRows(client, doing, { text: `alter table ${table} ${change}` });
    await queryRows(client, doing, { text: 'commit' });
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

async function literal(client: pg.Client, value: string): Promise<string> {
  const { quoted } = await queryRow<{ quoted: string }>(client, 'quote a value', {
    text: 'select quote_literal($1::text) as quoted',
    values: [value],
  });
  return quoted;
}
