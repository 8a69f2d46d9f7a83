import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import type { Session } from '../../engines/postgres/connection.ts';
import type { InstanceContext } from '../instance-context.ts';
import { checkReferences } from './check-references.ts';
import { planPartitions } from './dropped-partitions.ts';
import { planDropped } from './dropped-tables.ts';
import { type DestroyedByTransaction, findDestruction } from './find-destruction.ts';
import { findUndoTarget } from './find-undo-target.ts';
import { openLiveSession } from './live-session.ts';
import { droppedOids, type MatchedTable, matchTables } from './match-tables.ts';
import { openSource } from './open-source.ts';
import { putBack } from './put-back.ts';
import { recordUndo } from './record-undo.ts';
import { doneReport, foundReport } from './report-undo.ts';
import { planSequences } from './restarted-sequences.ts';
import type { RowSource } from './row-source.ts';
import { expectedRows, type StagedTable, stageRows } from './stage-rows.ts';
import { startClock } from './undo-clock.ts';
import type { UndoReport } from './undo-report.ts';
import type { UndoOptions, UndoRequest } from './undo-request.ts';
import type { UndoWork } from './undo-work.ts';
import { type WeighedTable, weighRows } from './weigh-rows.ts';
import { withLog } from './with-log.ts';

/**
 * Puts back the rows that one transaction destroyed, while the instance stays open and later writes stay. Nothing but a
 * temporary table is written before it is confirmed. It may be cut off and begun again at any time.
 *
 * @throws INCIDENT_NOT_FOUND, LOG_NOT_FOUND, TARGET_AMBIGUOUS, TARGET_UNREACHABLE, UNDO_REFUSED, LOCKED, SPACE_INSUFFICIENT
 */
export async function undo(
  context: InstanceContext,
  request: UndoRequest,
  options: UndoOptions,
): Promise<UndoReport> {
  const { onEvent, signal } = options;
  const clock = startClock();
  const target = await runStep(
    onEvent,
    { id: 'find', title: 'Transaction found', detail: ({ transaction }) => `number ${transaction.xid}` },
    () => withLog(context, signal, () => findUndoTarget(context, request.what, signal)),
  );
  const destruction = await runStep(
    onEvent,
    { id: 'find-rows', title: 'Destroyed rows found in the log', detail: describeDestruction },
    () => findDestruction(context, target, signal),
  );
  const { xid, subxids } = target.transaction;
  const xids = [xid, ...subxids];
  await using live = await openLiveSession(context, { database: destruction.database, xid }, signal);
  await using source = await openSource(context, { target, destruction, request, live }, options);
  clock.lap('source');
  const sameFiles = source.kind === 'snapshot';
  const matching = { tables: request.tables, sameFiles, xids, signal };
  const matched = await matchTables(source, live.session, destruction, matching);
  const dropped = await planDropped(source, matched.dropped, signal);
  const partitions = await planPartitions(source, live.session, droppedOids(matched), signal);
  const sequences = await planSequences(source, matched.tables, destruction.removed, signal);
  const staged = await gather(source, live.session, matched.tables, options);
  clock.lap('gather');
  const weighed: WeighedTable[] = [];
  for (const each of staged) weighed.push(await weighRows(live.session, each, xids, signal));
  clock.lap('compare');
  const others = matched.others.map(({ schema, name }) => `${schema}.${name}`);
  const plan = { weighed, dropped, partitions, sequences, others };
  const work = { instance: context.instance, target, live, source, ...plan, clock };
  const found = foundReport(work);
  if (request.dryRun) return { ...found, dryRun: true };
  await options.confirm(found);
  clock.skip();
  const report = await carryOut(work, { found, xids, batchRows: request.batchRows }, options);
  if (target.incident !== null) await recordUndo(context, target.incident, report, signal);
  return report;
}

async function carryOut(
  work: UndoWork,
  how: { readonly found: UndoReport; readonly xids: readonly number[]; readonly batchRows: number },
  options: UndoOptions,
): Promise<UndoReport> {
  const { live, weighed, dropped, clock } = work;
  const done = await putBack(work, how, options);
  const references = await runStep(
    options.onEvent,
    {
      id: 'references',
      title: 'Foreign keys checked',
      detail: ({ checked, problems }) => `${checked}, ${problems.length} with rows that refer to nothing`,
    },
    () =>
      checkReferences(
        live.session,
        weighed.map(each => each.staged.table.live.oid),
        options.signal,
      ),
  );
  clock.lap('compare');
  return doneReport(how.found, done, { references, dropped, clock });
}

async function gather(
  source: RowSource,
  live: Session,
  tables: readonly MatchedTable[],
  options: UndoOptions,
): Promise<StagedTable[]> {
  const { onEvent, signal } = options;
  const expected = tables.map(expectedRows);
  const total = expected.includes(null) ? null : expected.reduce<number>((sum, each) => sum + (each ?? 0), 0);
  let done = 0;
  const onRows = (rows: number): void => {
    done += rows;
    const of = { done, total: total ?? done, unit: 'rows' };
    onEvent({ type: 'progress', step: 'gather', doneBytes: 0, totalBytes: 0, ...of });
  };
  return runStep(
    onEvent,
    {
      id: 'gather',
      title: 'Rows gathered',
      detail: () => counted(done, 'row'),
    },
    async () => {
      const staged: StagedTable[] = [];
      for (const table of tables) staged.push(await stageRows(source, live, table, { signal, onRows }));
      return staged;
    },
  );
}

function describeDestruction({ rows, acts, segments }: DestroyedByTransaction): string {
  const count = rows.reduce(
    (sum, each) => sum + each.deleted.size + each.updated.size + each.rekeyed.size + each.moved.size,
    0,
  );
  const lost = acts.filter(each => each.act === 'truncate' || each.act.startsWith('drop')).length;
  const whole = lost === 0 ? '' : `, ${lost} ${lost === 1 ? 'table' : 'tables'} as a whole`;
  return `${counted(count, 'row')}${whole}, in ${counted(segments, 'segment')}`;
}
