import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { formatLsn, parseLsn } from '../../engines/postgres/lsn.ts';
import { BLOCKS_PER_GROUP } from '../../engines/postgres/row-positions.ts';
import { blockOf } from '../../engines/postgres/wal-row-changes.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey } from '../catalog/relation-names.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { type LiveInstance, locateInstance } from '../restore/live-instance.ts';
import { logFilesFor } from '../restore/needed-log.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { planWithLog } from '../restore/plan-with-log.ts';
import { restoreStamp } from '../restore/restore-report.ts';
import { planSideFiles, type RestoredPart, type SideFiles } from '../side/plan-files.ts';
import { withLeastFiles } from '../side/restore-side.ts';
import type { WantedPages } from '../side/select-files.ts';
import { claimSideDirectory } from '../side/side-directory.ts';
import type { LostRequest } from './export-lost-request.ts';
import { type ExportedRows, exportRows } from './export-rows.ts';
import { committedAt } from './lost-output.ts';
import type { LostReport } from './lost-report.ts';
import type { LostRow } from './lost-rows.ts';
import { lostTables } from './lost-tables.ts';
import { findWindow } from './lost-window.ts';
import { checkOutputDirectory, makeOutputDirectory } from './output-directory.ts';
import { type LostRows, type LostWindow, readLostRows } from './read-lost-rows.ts';
import { openSideInstance } from './side-instance.ts';

/**
 * Exports the rows that a recovery loses: what others than the disaster committed behind its target. They are read from a copy
 * that is recovered beside the instance, which goes on undisturbed, and is removed again.
 *
 * @throws as planRecovery; TARGET_NOT_EMPTY SPACE_INSUFFICIENT UNSUPPORTED (too many rows) RECOVERY_FAILED
 */
export async function exportLost(
  context: InstanceContext,
  request: LostRequest,
  options: RunOptions,
): Promise<LostReport> {
  const startedAt = performance.now();
  if (!request.dryRun) await checkOutputDirectory(request.output);
  const live = await locateInstance(context, options.signal).catch((error: unknown) => {
    if (error instanceof AppError) return null;
    throw error;
  });
  const plan = await planLost(context, request, { ...options, live });
  const window = await findWindow(context, plan, request, options.signal);
  const lost = await runStep(
    options.onEvent,
    {
      id: 'read-lost',
      title: 'Lost rows looked for in the log',
      detail: ({ transactions, rows }: LostRows) =>
        `${counted(transactions.length, 'transaction')}, ${counted(rows.length, 'row')}`,
    },
    () => readLostRows(context, plan.view, window, options.signal),
  );
  const pages = pagesOf(lost.rows);
  const side =
    pages.length === 0 ? null : await planSide(context, { plan, lost, window, pages }, options.signal);
  const exported = request.dryRun
    ? null
    : await exportFromCopy(context, { side, live, lost, request, from: window.from }, options);
  const tables = await lostTables(
    context,
    { view: plan.view, lost, exported, at: window.from },
    options.signal,
  );
  const [first, last] = [lost.transactions[0], lost.transactions.at(-1)];
  return {
    dryRun: request.dryRun,
    instance: context.instance,
    timeline: plan.timeline,
    from: formatLsn(window.from),
    to: formatLsn(window.to),
    excluded: lost.disasters.map(each => ({ xid: each.xid, committedAt: committedAt(each) })),
    transactions: lost.transactions.length,
    firstAt: first === undefined ? null : committedAt(first),
    lastAt: last === undefined ? null : committedAt(last),
    tables,
    acts: plan.loss?.acts.filter(({ xid }) => !window.excluded.has(xid)) ?? null,
    restored: side === null ? null : partOf(side.files),
    files: exported?.files ?? [],
    unchanged: exported?.unchanged ?? null,
    seconds: (performance.now() - startedAt) / 1000,
    problems: problemsOf(lost, tables),
  };
}

async function planLost(
  context: InstanceContext,
  { target, timeline, dryRun, output }: LostRequest,
  options: RunOptions & { readonly live: LiveInstance | null },
): Promise<RecoveryPlan> {
  const own = timeline ?? (target.kind === 'incident' ? target.timeline : null);
  return await planWithLog(
    context,
    { target, directory: output, timeline: own, dryRun, way: 'auto', verifyBeforeOpen: false },
    options,
  );
}

interface PlannedSide {
  /** Its log files lead to the last lost commit. */
  readonly plan: RecoveryPlan;
  readonly files: SideFiles;
}

async function planSide(
  context: InstanceContext,
  from: {
    readonly plan: RecoveryPlan;
    readonly lost: LostRows;
    readonly window: LostWindow;
    readonly pages: readonly WantedPages[];
  },
  signal: AbortSignal,
): Promise<PlannedSide> {
  const { plan, lost, window, pages } = from;
  const { backup, view } = plan;
  const last = lost.transactions.at(-1)?.lsn ?? window.from;
  // The record of the last commit may go on in the next segment.
  const end = view.firstMissing(parseLsn(backup.startLsn));
  const behind = last + BigInt(2 * view.segmentSize);
  const logFiles = logFilesFor(view, backup, behind < end ? behind : end);
  const logBytes = logFiles.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const files = await planSideFiles(context, plan, { pages, to: last }, signal);
  return { plan: { ...plan, logFiles, logBytes }, files };
}

/** Where the rows lie that will be read, at the target and later. */
function pagesOf(rows: readonly LostRow[]): WantedPages[] {
  const found = new Map<string, { readonly relation: RelationFile; readonly groups: Set<number> }>();
  for (const { relation, origin, place } of rows) {
    // It came and went.
    if (origin === null && place === null) continue;
    const key = fileKey(relation);
    const known = found.get(key) ?? { relation, groups: new Set() };
    found.set(key, known);
    for (const each of [origin, place])
      if (each !== null) known.groups.add(Math.floor(blockOf(each) / BLOCKS_PER_GROUP));
  }
  return [...found.values()];
}

function partOf({ bytes, ofBytes, whyAll }: SideFiles): RestoredPart {
  return { bytes, ofBytes, whyAll };
}

interface Export {
  /** Null: there is nothing to read. */
  readonly side: PlannedSide | null;
  readonly live: LiveInstance | null;
  readonly lost: LostRows;
  readonly request: LostRequest;
  readonly from: bigint;
}

async function exportFromCopy(
  context: InstanceContext,
  { side, live, lost, request, from }: Export,
  options: RunOptions,
): Promise<ExportedRows> {
  await makeOutputDirectory(request.output);
  if (side === null) return { files: [], shapes: new Map(), unread: new Map(), unchanged: 0 };
  const { plan } = side;
  const origin = live?.dataDirectory ?? context.dataDirectory ?? plan.backup.dataDirectory;
  const path = request.workDirectory ?? `${origin}.aishell-lost-${restoreStamp(new Date())}`;
  await using directory = await claimSideDirectory(context, { path, origin, live, ...side });
  const databases = [...new Set(lost.rows.map(each => each.relation.database))];
  const { format, output } = request;
  return await withLeastFiles({ ...side, directory }, options, async files => {
    await using instance = await openSideInstance(context, { plan, files, directory, databases }, options);
    return await exportRows(
      instance,
      { lost, from, format, output, spoolDirectory: directory.path },
      options,
    );
  });
}

function problemsOf(lost: LostRows, tables: LostReport['tables']): string[] {
  const unread = tables.filter(each => each.unread > 0);
  const onTop = tables.filter(each => each.onTop > 0);
  const name = ({ database, schema, table }: (typeof tables)[number]): string =>
    `${database}: ${schema === null ? table : `${schema}.${table}`}`;
  return [
    ...unread.map(
      each =>
        `${each.unread} rows of ${name(each)} could not be read: the table was rewritten, or is in no catalog; a copy has them: aishell backup restore --latest --target DIR`,
    ),
    ...onTop.map(
      each =>
        `${each.onTop} rows of ${name(each)} were changed on top of what the disaster had made of them: look at them by hand`,
    ),
    ...lost.rewritten.map(
      text =>
        `rows of ${text} were written anew: of those that were changed behind it, it cannot be said which they had been`,
    ),
    ...(lost.maybeCut.length > 0
      ? [
          `of ${lost.maybeCut.length} transactions the beginning may lie before the log that was read: ${lost.maybeCut.slice(0, 10).join(', ')}`,
        ]
      : []),
  ];
}
