import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { runCommand } from '../../base/run-command.ts';
import { counted } from '../../base/sizes.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { checkDatabases, type DatabaseChecks } from '../../engines/postgres/database-checks.ts';
import type { IsolatedServer, ReachedTarget } from '../../engines/postgres/isolated-server.ts';
import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import type { RunOptions } from '../instance-context.ts';
import { type PageVerification, verifyPages } from '../verify/verify-pages.ts';
import { finishRecovery, type Layout } from './assemble-directory.ts';
import type { LogFeeder } from './log-feeder.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import { replayLog } from './replay-log.ts';

/** What recovery and verification found. */
export interface Recovered {
  readonly reached: ReachedTarget;
  /** The timeline that the directory goes on with. */
  readonly timeline: number;
  readonly newLogFiles: readonly string[];
  readonly checks: DatabaseChecks;
  /** Null when the instance has no page checksums. */
  readonly pages: PageVerification | null;
}

/** How long each kind of check may take; what is left then is said in the report. */
const CHECK_BUDGET_MS = 60_000;

/**
 * Replays the log in isolation up to the target, opens on a new timeline, verifies, stops cleanly, and checks every page on disk. The directory is then a whole, stopped database: it starts at once.
 *
 * @throws RECOVERY_FAILED, VERIFICATION_FAILED, and what the feeder failed with
 */
export async function recoverDirectory(
  layout: Layout,
  recovery: {
    readonly plan: RecoveryPlan;
    readonly binaries: Binaries;
    readonly workers: number;
    /** Of the log into the directory's pg_wal; disposed of by the caller. */
    readonly feeder: LogFeeder;
  },
  options: RunOptions,
): Promise<Recovered> {
  const { plan } = recovery;
  const { backup } = plan;
  const { onEvent, signal } = options;
  const { server: replaying, reached } = await runStep(
    onEvent,
    {
      id: 'replay',
      title: 'Log replayed, opened on a new timeline in isolation',
      detail: done => describeReached(plan, done.reached),
    },
    () => replayLog(layout, recovery, options),
  );
  await using server = replaying;
  // On an open server: a transaction that was still running at the target would hold its locks (a DROP TABLE would block
  // its own table's checks). Nobody else reaches this server, so nothing changes.
  const checks = await checkDatabases({
    connect: database => server.connect(database, signal),
    budgetMs: {
      indexes: CHECK_BUDGET_MS,
      tables: CHECK_BUDGET_MS,
      foreignKeys: CHECK_BUDGET_MS,
      rows: CHECK_BUDGET_MS,
    },
    onEvent,
    signal,
  });
  await runStep(onEvent, { id: 'shutdown', title: 'Stopped cleanly' }, () => stopCleanly(server, options));
  const control = await readControlFile(layout.dataDirectory);
  const { newLogFiles } = await finishRecovery(layout, control);
  const pages = backup.pageChecksums ? await checkPages(layout, recovery, options) : null;
  await runStep(onEvent, { id: 'sync', title: 'Everything flushed to disk' }, () => syncDirectories(layout));
  refuseProblems(checks, pages, plan);
  return { reached, timeline: control.checkpoint.timeline, newLogFiles, checks, pages };
}

/** Ends a recovered server with everything written out, though not flushed. */
export async function stopCleanly(server: IsolatedServer, options: RunOptions): Promise<void> {
  const client = await server.connect(undefined, options.signal);
  await client.query('checkpoint').finally(() => client.end().catch(() => undefined));
  await server.stop('fast');
}

async function checkPages(
  layout: Layout,
  recovery: { readonly plan: RecoveryPlan; readonly workers: number },
  options: RunOptions,
): Promise<PageVerification> {
  const { backup } = recovery.plan;
  const listing = {
    tablespaceVersionDirectory: backup.tablespaceVersionDirectory,
    relationSegmentBlocks: backup.relationSegmentBlocks,
  };
  return runStep(
    options.onEvent,
    {
      id: 'pages',
      title: 'Page checksums',
      detail: found => `${counted(found.pages, 'page')}, ${found.damaged.length} wrong`,
    },
    () =>
      verifyPages(
        layout.dataDirectory,
        { blockSize: backup.blockSize, workers: recovery.workers, listing },
        options,
      ),
  );
}

/** The recovery ran without flushing; now everything must be on disk before it counts. */
export async function syncDirectories(layout: Layout): Promise<void> {
  for (const directory of [layout.dataDirectory, ...layout.tablespaces.values()]) {
    // Node cannot flush a whole file system at once, and a flush for each of a hundred thousand files takes minutes.
    const { exitCode, stderr } = await runCommand(['sync', '--file-system', directory], {});
    if (exitCode !== 0)
      throw new AppError('FILE_FAILED', `unable to flush '${directory}' to disk: ${stderr.trim()}`);
  }
}

function refuseProblems(checks: DatabaseChecks, pages: PageVerification | null, plan: RecoveryPlan): void {
  const { damagedPages } = plan.backup;
  const known = new Set(damagedPages.map(page => `${page.path} ${page.block}`));
  const damaged = (pages?.damaged ?? []).filter(page => !known.has(`${page.path} ${page.block}`));
  const problems = [...checks.indexes.problems, ...checks.tables.problems].filter(
    problem => !isOfKnownPage(problem.message, damagedPages),
  );
  const [page] = damaged;
  const [problem] = problems;
  if (page === undefined && problem === undefined) return;
  const first =
    page === undefined
      ? `${problem?.object}: ${problem?.message}`
      : `block ${page.block} of ${page.path} has a wrong checksum`;
  throw new AppError(
    'VERIFICATION_FAILED',
    `the recovered database is damaged (${damaged.length + problems.length} problems; first: ${first})`,
    {
      hint: 'The old state was not touched. Restore from an older backup, and run `aishell backup verify --all`.',
      details: { pages: damaged.slice(0, 100), problems: problems.slice(0, 100) },
    },
  );
}

/**
 * What the server says of a page that was damaged when it was backed up. It names the first file of a relation, whichever
 * the block is in. @source bufmgr.c, "invalid page in block %u of relation %s"
 */
function isOfKnownPage(message: string, known: readonly DamagedPage[]): boolean {
  const [, block, relation] = /invalid page in block (\d+) of relation "?([^\s"]+)/.exec(message) ?? [];
  return known.some(page => String(page.block) === block && page.path.replace(/\.\d+$/, '') === relation);
}

function describeReached(plan: RecoveryPlan, reached: ReachedTarget): string {
  const at = reached.replayTime === null ? '' : `, last transaction ${reached.replayTime}`;
  return `${counted(plan.logFiles.length, 'file')} of the log${at}`;
}
