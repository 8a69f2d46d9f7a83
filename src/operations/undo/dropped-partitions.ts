import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { readTableDefinition, type TableDefinition } from '../../engines/postgres/table-definition.ts';
import type { RowSource } from './row-source.ts';

/** A table's place among the partitions of another one; names as SQL takes them. */
interface PartitionPlace {
  readonly oid: number;
  readonly table: string;
  readonly parent: number;
  readonly parentName: string;
  /** `FOR VALUES …` or `DEFAULT`. */
  readonly bound: string;
}

/** A partitioned table that is not there any more, and is made anew without rows before its partitions. */
interface MissingParent {
  readonly oid: number;
  readonly name: string;
  readonly definition: TableDefinition;
}

export interface DroppedPartitions {
  /** Those at the top first. */
  readonly parents: readonly MissingParent[];
  /** In the same order, then the tables with rows. */
  readonly places: readonly PartitionPlace[];
}

/**
 * Finds where dropped tables belong as partitions, and which of the tables above them were dropped too.
 *
 * @param oids of tables as the source has them
 * @throws UNDO_REFUSED where a partitioned table cannot be made anew
 */
export async function planPartitions(
  source: RowSource,
  live: Session,
  oids: readonly number[],
  signal: AbortSignal,
): Promise<DroppedPartitions> {
  const places = await queryRows<PartitionPlace>(source.session, 'read what partitions belong to', {
    text: `
      with recursive up as (
        select i.inhrelid as oid, i.inhparent as parent, 0 as level from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where c.relispartition and c.oid = any($1::int8[]::oid[])
        union select i.inhrelid, i.inhparent, up.level - 1 from up join pg_inherits i on i.inhrelid = up.parent)
      select c.oid::int8::float8 as oid, format('%I.%I', n.nspname, c.relname) as table, p.oid::int8::float8 as parent,
             format('%I.%I', pn.nspname, p.relname) as "parentName", pg_get_expr(c.relpartbound, c.oid) as bound
      from (select oid, parent, min(level) as level from up group by oid, parent) up
        join pg_class c on c.oid = up.oid join pg_namespace n on n.oid = c.relnamespace
        join pg_class p on p.oid = up.parent join pg_namespace pn on pn.oid = p.relnamespace
      order by up.level, c.relname`,
    values: [oids],
    signal,
  });
  const parents = new Map(places.map(({ parent, parentName }) => [parent, parentName]));
  const names = await liveNames(live, parents, signal);
  const missing: MissingParent[] = [];
  for (const [oid, name] of parents) {
    if (names.has(oid)) continue;
    const definition = await readTableDefinition(source.session, oid, signal);
    if (definition.refusals.length > 0) throw refusal(name, definition.refusals);
    missing.push({ oid, name, definition });
  }
  const isDue = ({ oid }: PartitionPlace): boolean =>
    oids.includes(oid) || missing.some(each => each.oid === oid);
  return {
    parents: missing,
    places: places.filter(isDue).map(each => ({
      ...each,
      parentName: names.get(each.parent) ?? each.parentName,
    })),
  };
}

function refusal(name: string, reasons: readonly string[]): AppError {
  return new AppError(
    'UNDO_REFUSED',
    `unable to make the partitioned table ${name} anew: ${reasons.join(', ')}`,
    {
      hint: 'Nothing was changed. See `aishell backup restore --target` for a copy of the database from before.',
      details: { reasons },
    },
  );
}

/** What partitioned tables are called now, by their numbers at the source: the same ones, or others of that name. */
async function liveNames(
  live: Session,
  parents: ReadonlyMap<number, string>,
  signal: AbortSignal,
): Promise<Map<number, string>> {
  const rows = await queryRows<{ oid: number; name: string }>(live, 'look for partitioned tables', {
    text: `
      select w.oid::float8 as oid, format('%I.%I', n.nspname, c.relname) as name
      from unnest($1::int8[], $2::text[]) w(oid, name)
        join pg_class c on c.relkind = 'p' and (c.oid = w.oid::oid or c.oid = to_regclass(w.name))
        join pg_namespace n on n.oid = c.relnamespace
      order by c.oid = w.oid::oid`,
    values: [[...parents.keys()], [...parents.values()]],
    signal,
  });
  return new Map(rows.map(({ oid, name }) => [oid, name]));
}

/** Makes partitioned tables anew, each in a transaction of its own: they have no rows themselves. */
export async function recreateParents(
  live: Session,
  { parents }: DroppedPartitions,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, definition } of parents) {
    const run = (text: string): Promise<object[]> => queryRows(live, `make ${name} anew`, { text, signal });
    await run('begin');
    try {
      for (const { phase, text } of definition.statements) if (phase !== 'references') await run(text);
      await run('commit');
    } catch (error) {
      await run('rollback').catch(() => undefined);
      throw error;
    }
  }
}

/** Whoever has the partitioned table open is waited for, a few times. */
const ATTEMPTS = 5;

/**
 * Makes tables partitions again, with all their rows in place. Gives those that could not be, each with its reason: their rows
 * are back, in a table beside.
 */
export async function attachPartitions(
  live: Session,
  { places }: DroppedPartitions,
  signal: AbortSignal,
): Promise<string[]> {
  const problems: string[] = [];
  for (const { table, parentName, bound } of places) {
    const text = `alter table ${parentName} attach partition ${table} ${bound}`;
    const { attached } = await queryRow<{ attached: boolean }>(live, `look for ${table}`, {
      text: 'select coalesce((select relispartition from pg_class where oid = to_regclass($1)), false) as attached',
      values: [table],
      signal,
    });
    if (attached) continue;
    const error = await attach(live, text, signal);
    if (error !== null)
      problems.push(
        `${table} is back with its rows, and not yet a partition of ${parentName}: ${error.message}; to be done by hand: ${text}`,
      );
  }
  return problems;
}

async function attach(live: Session, text: string, signal: AbortSignal): Promise<AppError | null> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await queryRows(live, 'make it a partition again', { text, signal });
      return null;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError) || error.code === 'DATABASE_UNREACHABLE') throw error;
      // @source PostgreSQL manual, "PostgreSQL Error Codes", lock_not_available
      if (error.details?.['sqlState'] !== '55P03' || attempt === ATTEMPTS) return error;
    }
  }
}
