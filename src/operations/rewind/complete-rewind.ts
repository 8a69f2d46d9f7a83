import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { checkDatabases } from '../../engines/postgres/database-checks.ts';
import { startIsolatedServer } from '../../engines/postgres/isolated-server.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { RunOptions } from '../instance-context.ts';
import { finishLog, markForArchiving } from '../restore/assemble-directory.ts';
import { waitUntilOpen } from '../restore/restore-in-place.ts';
import { withHint } from '../restore/stop-live-server.ts';
import { holdControlFile, placeControlFile } from './guard.ts';
import { type RewindJournal, removePointer, writeJournal } from './journal.ts';
import type { Places } from './places.ts';
import { finishRewind, placeRewound, type RewindDone, type RewindRun } from './rewind-run.ts';
import { CHECK_BUDGET_MS, type OpenVerification, verifyAllPages, verifyOpen } from './verify-open.ts';

/** What a rewind came to. */
export interface CompletedRewind {
  readonly journal: RewindJournal;
  readonly done: RewindDone;
  /** When it was open, as `performance.now()` tells. */
  readonly openedAt: number;
  readonly verification: OpenVerification | null;
  /** Why the verification after opening was not finished. */
  readonly unverified: string | null;
}

/**
 * Brings a rewind whose safety copy is whole to its end: rewritten, recovered, on the disk, in place, open, verified. Its
 * errors say how it is finished, or undone.
 */
export async function completeRewind(
  run: RewindRun,
  journal: RewindJournal,
  opening: { readonly service: Service; readonly verifyBeforeOpen: boolean; readonly onOpen: () => void },
  options: RunOptions,
): Promise<CompletedRewind> {
  const { service } = opening;
  const { places } = journal;
  let verification: OpenVerification | null = null;
  let now = journal;
  let done: RewindDone = { rewritten: null, touched: null, work: null };
  if (now.phase !== 'placed') {
    try {
      const finished = await finishRewind(run, now, options);
      done = finished.done;
      now = finished.journal;
      if (opening.verifyBeforeOpen) {
        now = await writeJournal({ ...now, used: true });
        verification = await verifyInIsolation(run, places, options);
      }
      now = await placeRewound(now, options);
    } catch (error) {
      throw withHint(error, wayOn(journal), options);
    }
  }
  // Cut off just before it was.
  await placeControlFile(places);
  await removePointer(now);
  await runStep(
    options.onEvent,
    { id: 'start', title: 'Server started', detail: () => service.description },
    async () => {
      try {
        await service.start({ signal: options.signal });
        await waitUntilOpen(run.context, options.signal);
      } catch (error) {
        const way = `The rewound database is whole and in place; start it with: ${service.startCommand} Or go back with: ${goBackCommand(journal)}`;
        throw withHint(error, way, options);
      }
    },
  );
  const openedAt = performance.now();
  opening.onOpen();
  if (verification !== null) return { journal: now, done, openedAt, verification, unverified: null };
  return { journal: now, done, openedAt, ...(await verifyQuietly(run, places, options)) };
}

/** What a person types to bring back the state before a rewind. */
export function goBackCommand({ places, instance }: Pick<RewindJournal, 'places' | 'instance'>): string {
  return shellCommand(['aishell', 'backup', 'restore', '--go-back', places.safety, '--instance', instance]);
}

/** What a person types to finish a rewind that was cut off. */
export function resumeCommand({ instance }: Pick<RewindJournal, 'instance'>): string {
  return shellCommand(['aishell', 'backup', 'restore', '--resume', '--instance', instance]);
}

function wayOn(journal: RewindJournal): string {
  return `The instance cannot be started until this is finished or undone. To finish it, run the same command again, or: ${resumeCommand(journal)}. To bring back the state before: ${goBackCommand(journal)}`;
}

/** The instance is open: whatever goes wrong from here on is told, and is no failure of the rewind. */
async function verifyQuietly(
  run: RewindRun,
  places: Places,
  options: RunOptions,
): Promise<Pick<CompletedRewind, 'verification' | 'unverified'>> {
  try {
    const verification = await verifyOpen(run.context, { places, manifest: run.manifest }, options);
    return { verification, unverified: null };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { verification: null, unverified: error.message };
  }
}

/**
 * Checks everything before anybody is let in, on a server that flushes what it writes: sessions set hints, and the records of
 * these must outlive a crash, so that going back knows all pages that were changed.
 *
 * @throws VERIFICATION_FAILED
 */
async function verifyInIsolation(
  run: RewindRun,
  places: Places,
  options: RunOptions,
): Promise<OpenVerification> {
  const { context, manifest, binaries, owner } = run;
  const { backup } = manifest;
  const pages = backup.pageChecksums ? await verifyAllPages(context, { places, manifest }, options) : null;
  await placeControlFile(places);
  const server = await startIsolatedServer({
    dataDirectory: places.dataDirectory,
    binaries,
    superuser: backup.bootstrapSuperuser,
    disposable: false,
    logFile: join(places.safety, 'verification.log'),
    settings: {},
    signal: options.signal,
  });
  try {
    await server.waitForTarget({ signal: options.signal });
    const checks = await checkDatabases({
      connect: database => server.connect(database, options.signal),
      budgetMs: {
        indexes: 2 * CHECK_BUDGET_MS,
        tables: 2 * CHECK_BUDGET_MS,
        foreignKeys: 2 * CHECK_BUDGET_MS,
        rows: 2 * CHECK_BUDGET_MS,
      },
      onEvent: options.onEvent,
      signal: options.signal,
    });
    await server.stop('fast');
    const control = await readControlFile(places.dataDirectory);
    await holdControlFile(places);
    // What it has written is archived as well: the next rewind needs the log from its first byte on.
    const { newLogFiles } = await finishLog(places.log, control);
    await markForArchiving(places.dataDirectory, newLogFiles, owner);
    refuseProblems(pages, checks, backup.damagedPages);
    return { pages, checks };
  } finally {
    await server.stop('fast');
  }
}

function refuseProblems(
  pages: OpenVerification['pages'],
  checks: OpenVerification['checks'],
  known: readonly { readonly path: string; readonly block: number }[],
): void {
  const damaged = (pages?.damaged ?? []).filter(
    page => !known.some(each => each.path === page.path && each.block === page.block),
  );
  const problems = [...checks.indexes.problems, ...checks.tables.problems];
  const [page] = damaged;
  const [problem] = problems;
  if (page === undefined && problem === undefined) return;
  const first =
    page === undefined
      ? `${problem?.object}: ${problem?.message}`
      : `block ${page.block} of ${page.path} has a wrong checksum`;
  throw new AppError(
    'VERIFICATION_FAILED',
    `the rewound database is damaged (${damaged.length + problems.length} problems; first: ${first})`,
    { details: { pages: damaged.slice(0, 100), problems: problems.slice(0, 100) } },
  );
}
