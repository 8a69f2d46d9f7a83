import type pg from 'pg';
import { queryRow, queryRows } from './connection.ts';
import { isoTime } from './server-facts.ts';

/** A session of somebody else's. Nothing of its query is kept: that may hold values of rows. */
export interface SessionFacts {
  readonly pid: number;
  /** Null: a process of the server's own. */
  readonly user: string | null;
  readonly database: string | null;
  readonly application: string;
  /** An address; null for a local socket. */
  readonly client: string | null;
  /** `client backend`, `autovacuum worker`, … */
  readonly kind: string;
  /** `active`, `idle in transaction`, … */
  readonly state: string | null;
  /** When its transaction began; null when it is in none. */
  readonly transactionStart: string | null;
  /** It has a transaction number: it has written something. */
  readonly wrote: boolean;
}

/** A transaction that was prepared for a commit in two phases: it has no session, and holds its locks over restarts. */
export interface PreparedTransaction {
  readonly gid: string;
  readonly owner: string;
  readonly database: string;
  readonly prepared: string;
}

export interface SessionScope {
  /**
   * `transactions`: those in a transaction that began at `before` or earlier, or that has written and began so shortly
   * after it that its session may not yet have been told. `databases`: every session in a database.
   */
  readonly which: 'transactions' | 'databases';
  /** As the server's clock has it, from {@link serverTime}. */
  readonly before: string;
  /** Superusers' sessions, which others than a superuser cannot end, are left out. */
  readonly endable: boolean;
}

/** How the server lists the sessions in which people run statements of their own. */
export const CONSOLE_APPLICATION = 'aishell sql';

/**
 * Sessions of this program are left alone, whichever process of it opened them: a backup or a held snapshot is what the
 * writes are stopped for. Those of its console are not: what is run there is somebody's. So are walsenders (they only read the log), and parallel workers, which end with their leader.
 */
const others = `
  from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid
  where a.datid is not null and a.pid <> pg_backend_pid()
    and a.backend_type not in ('walsender', 'parallel worker')
    and not (a.application_name like 'aishell%' and a.application_name not like '${CONSOLE_APPLICATION}%'
             and a.usename = current_user)`;

const inScope = `
  and (not $3::boolean or (r.rolsuper is false and a.backend_type = 'client backend'))
  and ($1 = 'databases' or a.xact_start <= $2::timestamptz
       or (a.backend_xid is not null and a.xact_start <= $2::timestamptz + interval '100 ms'))`;

const columns = `
  a.pid, a.usename::text as user, a.datname::text as database, a.application_name as application,
  host(a.client_addr) as client, a.backend_type as kind, a.state, ${isoTime('a.xact_start')} as "transactionStart",
  a.backend_xid is not null as wrote`;

/** How many sessions others have, and those of them that could still write. */
export async function readSessions(
  client: pg.Client,
): Promise<{ readonly total: number; readonly inTransaction: readonly SessionFacts[] }> {
  const rows = await queryRows<SessionFacts>(client, 'list the sessions', {
    text: `select ${columns} ${others}`,
  });
  return {
    total: rows.length,
    inTransaction: rows.filter(row => row.transactionStart !== null || row.wrote),
  };
}

/** Asks every session in scope to end, and gives those that were asked; they end a moment later. */
export async function terminateSessions(client: pg.Client, scope: SessionScope): Promise<SessionFacts[]> {
  return await queryRows<SessionFacts>(client, 'end the sessions that could write', {
    text: `select ${columns}, pg_terminate_backend(a.pid) as asked ${others} ${inScope}`,
    values: [scope.which, scope.before, !scope.endable],
  });
}

/**
 * Looks for `forMs` at who writes, and gives the sessions that were seen. A transaction of one statement has its number
 * for less than a millisecond: only the server itself can look so often.
 */
export async function watchWriters(client: pg.Client, forMs: number): Promise<SessionFacts[]> {
  await queryRows(client, 'watch who writes', {
    text: `
      do language plpgsql $$
      declare
        over constant timestamptz := clock_timestamp() + interval '${Math.round(forMs)} ms';
        seen jsonb := '{}';
        writing int;
      begin
        while clock_timestamp() < over loop
          perform pg_stat_clear_snapshot();
          for writing in select a.pid from pg_stat_get_activity(null) a where a.backend_xid is not null loop
            if not seen ? writing::text then
              seen := seen || coalesce((select jsonb_build_object(f.pid, to_jsonb(f)) from (select ${columns} ${others}) f
                                        where f.pid = writing), '{}');
            end if;
          end loop;
        end loop;
        perform set_config('aishell.writers', seen::text, false);
      end $$`,
  });
  const { seen } = await queryRow<{ seen: Record<string, SessionFacts> }>(client, 'watch who writes', {
    text: `select current_setting('aishell.writers')::jsonb as seen`,
  });
  return Object.values(seen).map(session => ({ ...session, wrote: true }));
}

/** On a standby none are shown; they are still there when it is a primary again. */
export async function readPrepared(client: pg.Client): Promise<PreparedTransaction[]> {
  return await queryRows<PreparedTransaction>(client, 'list the prepared transactions', {
    text: `select gid, owner::text, database::text, ${isoTime('prepared')} as prepared from pg_prepared_xacts order by 4`,
  });
}

/** Sessions that a restart of the server would upset: of what watches over it, and of ours that keep old rows visible. */
export async function readWatchers(
  client: pg.Client,
): Promise<{ readonly application: string; readonly ours: boolean }[]> {
  return await queryRows(client, 'list the sessions that a restart would upset', {
    text: `select distinct application_name as application, application_name like 'aishell%' as ours
           from pg_stat_activity
           where application_name ~* '^(patroni|repmgrd|pgautofailover|pg_auto_failover|stolon)'
              or (application_name like 'aishell%' and usename = current_user and backend_xmin is not null
                  and pid <> pg_backend_pid() and xact_start < now())`,
  });
}
