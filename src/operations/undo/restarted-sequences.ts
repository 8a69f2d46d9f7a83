import { AppError } from '../../base/errors.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import type { MatchedTable } from './match-tables.ts';
import type { RowSource } from './row-source.ts';

/** A sequence that gives a table its numbers, and that the transaction began anew. */
export interface RestartedSequence {
  readonly oid: number;
  /** The last number it had given, or one a little behind that: the log is ahead of it. */
  readonly last: string;
}

/**
 * Finds the sequences that TRUNCATE … RESTART IDENTITY has begun anew: the next row would get a number that a row has which is
 * back.
 *
 * @param removed a sequence that is begun anew gets a new file
 */
export async function planSequences(
  source: RowSource,
  tables: readonly MatchedTable[],
  removed: readonly RelationFile[],
  signal: AbortSignal,
): Promise<RestartedSequence[]> {
  const emptied = tables.filter(({ act }) => act === 'truncate').map(table => table.source.oid);
  if (emptied.length === 0) return [];
  return await queryRows(source.session, 'read the sequences of emptied tables', {
    text: `
      with recursive owner(oid) as (
        select unnest($1::int8[]::oid[])
        union select i.inhparent from pg_inherits i join owner o on i.inhrelid = o.oid)
      select distinct s.oid::int8::float8 as oid, pg_sequence_last_value(q.seqrelid)::text as last
      from pg_sequence q join pg_class s on s.oid = q.seqrelid
        join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid
                        and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
      where d.refobjid in (select oid from owner) and s.relfilenode = any($2::int8[]::oid[])
        and pg_sequence_last_value(q.seqrelid) is not null`,
    values: [emptied, removed.map(({ file }) => file)],
    signal,
  });
}

/** Lets sequences go on where they were, unless they are there already. Gives those that could not be, each with its reason. */
export async function continueSequences(
  live: Session,
  sequences: readonly RestartedSequence[],
  signal: AbortSignal,
): Promise<string[]> {
  const problems: string[] = [];
  for (const { oid, last } of sequences) {
    const doing = 'let a sequence go on where it was';
    try {
      await queryRows(live, doing, {
        text: `
          select setval(q.seqrelid, $2::int8)
          from pg_sequence q, lateral pg_sequence_last_value(q.seqrelid) now
          where q.seqrelid = $1::int8::oid and $2::int8 between q.seqmin and q.seqmax
            and (now is null or case when q.seqincrement > 0 then now < $2::int8 else now > $2::int8 end)`,
        values: [oid, last],
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError) || error.code === 'DATABASE_UNREACHABLE') throw error;
      problems.push(`${error.message}; new rows may get numbers that others have, up to ${last}`);
    }
  }
  return problems;
}
