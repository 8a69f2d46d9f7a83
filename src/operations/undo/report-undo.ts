import { formatMoment } from '../../base/moment.ts';
import { formatCount } from '../../base/sizes.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import { type DroppedTable, droppedFacts } from './dropped-tables.ts';
import type { DoneTables } from './put-back.ts';
import type { UndoClock } from './undo-clock.ts';
import { describeLeft, type UndoReport, type UndoTableFacts } from './undo-report.ts';
import type { UndoWork } from './undo-work.ts';

/** What was found, before anything is changed. */
export function foundReport(work: UndoWork): UndoReport {
  const { target, live, source, weighed, dropped, clock } = work;
  const { transaction } = target;
  const tables = [...dropped.map(droppedFacts), ...weighed.map(each => each.facts)];
  return {
    dryRun: false,
    instance: work.instance,
    incident: target.incident?.id ?? null,
    transaction: {
      xid: transaction.xid,
      subtransactions: transaction.subxids.length,
      committedAt: formatMoment(transaction.timeUs),
      lsn: formatLsn(transaction.lsn),
    },
    database: live.database,
    source: { kind: source.kind, text: source.text, restored: source.restored },
    tables,
    others: work.others,
    undone: null,
    references: null,
    triggers: weighed.flatMap(({ staged }) => {
      const { schema, name, triggers, alwaysTriggers } = staged.table.live;
      return (live.replica ? alwaysTriggers : triggers).map(trigger => `${schema}.${name}: ${trigger}`);
    }),
    estimatedSeconds: estimate(work),
    seconds: clock.seconds,
    problems: [...problemsOf(tables), ...lostWith(dropped)],
  };
}

/** What was done, and what is left. */
export function doneReport(
  found: UndoReport,
  done: DoneTables,
  made: {
    readonly references: NonNullable<UndoReport['references']>;
    readonly dropped: readonly DroppedTable[];
    readonly clock: UndoClock;
  },
): UndoReport {
  const { references } = made;
  return {
    ...found,
    tables: done.facts,
    undone: done.undone,
    references,
    seconds: made.clock.seconds,
    problems: [
      ...problemsOf(done.facts),
      ...lostWith(made.dropped),
      ...done.problems,
      ...done.undone
        .filter(each => !each.proof.equal)
        .map(each => `${each.schema}.${each.table}: the checksums of what was put back differ`),
      ...references.skipped,
      ...references.problems.map(
        each =>
          `${each.table}: ${formatCount(each.orphans)} ${each.orphans === 1 ? 'row refers' : 'rows refer'} to nothing in ${each.referencedTable} (${each.constraint})`,
      ),
    ],
  };
}

function problemsOf(tables: readonly UndoTableFacts[]): string[] {
  return tables.flatMap(table => table.left.map(left => describeLeft(table, left)));
}

function lostWith(dropped: readonly DroppedTable[]): string[] {
  return dropped.flatMap(({ shape, definition }) =>
    definition.lost.map(what => `${shape.schema}.${shape.name}: ${what} went with it and is not made anew`),
  );
}

/** Inserting takes three times as long as gathering, with two indexes. */
const MERGE_PER_GATHER = 3;
/** Of a table that is made anew, nothing is gathered before. */
const ROWS_PER_SECOND = 100_000;

function estimate({ weighed, dropped, clock }: UndoWork): number {
  const gathered = weighed.reduce((sum, each) => sum + each.staged.rows, 0);
  const wanted = weighed.reduce((sum, { facts }) => sum + facts.toInsert + facts.toSetBack, 0);
  const anew = dropped.reduce((sum, each) => sum + each.rows, 0) / ROWS_PER_SECOND;
  return anew + (gathered === 0 ? 0 : (wanted / gathered) * clock.seconds.gather * MERGE_PER_GATHER);
}
