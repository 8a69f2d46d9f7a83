import { runStep } from '../../base/events.ts';
import { counted, formatCount } from '../../base/sizes.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import { attachPartitions, recreateParents } from './dropped-partitions.ts';
import { droppedFacts, recreateReferences, recreateTable } from './dropped-tables.ts';
import { type MergedRows, mergeRows } from './merge-rows.ts';
import { orderTables } from './order-tables.ts';
import { proveTable } from './prove-table.ts';
import { continueSequences } from './restarted-sequences.ts';
import type { UndoneTable, UndoTableFacts } from './undo-report.ts';
import type { UndoOptions } from './undo-request.ts';
import type { UndoWork } from './undo-work.ts';
import type { WeighedTable } from './weigh-rows.ts';

export interface DoneTables {
  readonly facts: readonly UndoTableFacts[];
  readonly undone: readonly UndoneTable[];
  /** What could not be put back beside the rows: sequences, partitions, foreign keys. */
  readonly problems: readonly string[];
}

interface MergedTable {
  readonly weighed: WeighedTable;
  readonly rows: MergedRows;
}

/** Puts everything back and compares it with the source. */
export async function putBack(
  work: UndoWork,
  { xids, batchRows }: { readonly xids: readonly number[]; readonly batchRows: number },
  options: UndoOptions,
): Promise<DoneTables> {
  const { onEvent, signal } = options;
  const { weighed, dropped, partitions, sequences, clock } = work;
  const { session } = work.live;
  const toDo = (facts: UndoTableFacts): number => facts.toInsert + facts.toSetBack;
  const total = [...dropped.map(droppedFacts), ...weighed.map(each => each.facts)].reduce(
    (sum, each) => sum + toDo(each),
    0,
  );
  let done = 0;
  const onRows = (rows: number): void => {
    done += rows;
    onEvent({ type: 'progress', step: 'merge', doneBytes: 0, totalBytes: 0, done, total, unit: 'rows' });
  };
  const anew: UndoneTable[] = [];
  const merged: MergedTable[] = [];
  const problems: string[] = [];
  await runStep(
    onEvent,
    { id: 'merge', title: 'Rows put back', detail: () => counted(done, 'row') },
    async () => {
      await recreateParents(session, partitions, signal);
      for (const table of dropped)
        anew.push(await recreateTable(work.source, session, table, { signal, onRows }));
      for (const each of await orderTables(session, weighed, signal))
        merged.push({
          weighed: each,
          rows: await mergeRows(session, each, { xids, batchRows, signal, onRows }),
        });
      problems.push(...(await continueSequences(session, sequences, signal)));
      await flush(session, signal);
    },
  );
  const gone = [
    ...dropped.map(({ shape }) => shape),
    ...weighed.flatMap(({ staged: { table } }) => (table.act === 'drop' ? [table.source] : [])),
  ];
  problems.push(
    ...(await attachPartitions(session, partitions, signal)),
    ...(await recreateReferences(work.source, session, [...partitions.parents, ...gone], signal)),
    ...partitions.parents.flatMap(({ name, definition }) =>
      definition.lost.map(what => `${name}: ${what} went with it and is not made anew`),
    ),
  );
  clock.lap('merge');
  const proven = await prove(session, { merged, xids }, options);
  return {
    facts: [...dropped.map(each => ({ ...droppedFacts(each), present: each.rows })), ...proven.facts],
    undone: [...anew, ...proven.undone],
    problems,
  };
}

async function prove(
  live: Session,
  work: { readonly merged: readonly MergedTable[]; readonly xids: readonly number[] },
  { onEvent, signal }: UndoOptions,
): Promise<Pick<DoneTables, 'facts' | 'undone'>> {
  const { merged, xids } = work;
  return runStep(
    onEvent,
    {
      id: 'prove',
      title: 'Compared with the source, row by row',
      detail: all => `${formatCount(all.undone.reduce((sum, { proof }) => sum + proof.rows, 0))} equal`,
    },
    async () => {
      const facts: UndoTableFacts[] = [];
      const undone: UndoneTable[] = [];
      for (const { weighed, rows } of merged) {
        const proven = await proveTable(live, { weighed, rows, xids }, signal);
        facts.push(proven.facts);
        undone.push(proven.undone);
      }
      return { facts, undone };
    },
  );
}

/** A commit that waits for the disk: what was committed before is on it as well then. */
async function flush(session: Session, signal: AbortSignal): Promise<void> {
  for (const text of ['begin', 'set local synchronous_commit = on', 'select pg_current_xact_id()', 'commit'])
    await queryRows(session, 'flush what was put back', { text, signal });
}
