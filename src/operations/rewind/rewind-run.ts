import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { type ControlFile, parseControlFile } from '../../engines/postgres/control-file.ts';
import { formatLsn, parseLsn, segmentName, segmentStart } from '../../engines/postgres/lsn.ts';
import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import { createWalThinner, type WalThinner } from '../../engines/postgres/wal-thinner.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import type { LogView } from '../log/log-view.ts';
import { finishLog, markForArchiving } from '../restore/assemble-directory.ts';
import { startLogFeeder } from '../restore/log-feeder.ts';
import type { Owner } from '../restore/new-files.ts';
import { syncDirectories } from '../restore/recover-directory.ts';
import { checkTouched, type TouchedPages } from './check-touched.ts';
import { decideWork, type RewindWork } from './decide-work.ts';
import { guardDirectory, holdControlFile, placeControlFile, unguardDirectory } from './guard.ts';
import { type RewindJournal, removePointer, writeJournal } from './journal.ts';
import { flushedLayout, keptPlace } from './places.ts';
import { replayUnseen, type UnseenResult } from './replay-unseen.ts';
import { logFilesOf } from './rewind-log.ts';
import { type Rewritten, rewriteFiles } from './rewrite-files.ts';
import type { SavedState } from './saved-state.ts';
import { settleFiles } from './settle-files.ts';

/** What a rewind works with once its safety copy is whole. */
export interface RewindRun {
  readonly context: InstanceContext;
  readonly manifest: Manifest;
  readonly view: LogView;
  readonly state: SavedState;
  readonly work: RewindWork;
  readonly binaries: Binaries;
  readonly owner: Owner;
}

/** What was done, for the report; null where an earlier run did it. */
export interface RewindDone {
  readonly rewritten: Rewritten | null;
  readonly touched: TouchedPages | null;
  /** What was decided for it: without settled pages where it had to be done once more. */
  readonly work: Pick<RewindWork, 'amount' | 'settled'> | null;
}

/**
 * Brings a rewind whose safety copy is whole to the state of a stopped, recovered database on the disk, ready to be started,
 * from wherever it is. Each phase is on the disk before the next one begins.
 */
export async function finishRewind(
  run: RewindRun,
  journal: RewindJournal,
  options: RunOptions,
): Promise<{ readonly journal: RewindJournal; readonly done: RewindDone }> {
  let now = journal;
  let done: RewindDone = { rewritten: null, touched: null, work: null };
  if (now.phase === 'rewriting') {
    const recovered = await rewriteAndRecover(run, now, options);
    done = recovered.done;
    now = await writeJournal({ ...now, phase: 'recovered', recovered: recovered.at });
  }
  if (now.phase === 'recovered') {
    await flush(now, options);
    now = await writeJournal({ ...now, phase: 'flushed' });
  }
  return { journal: now, done };
}

/** Puts the control file into its place: from here on it is a database like any other. */
export async function placeRewound(journal: RewindJournal, options: RunOptions): Promise<RewindJournal> {
  return await runStep(
    options.onEvent,
    { id: 'place', title: 'Rewound database put in place', detail: () => journal.places.safety },
    async () => {
      const { places } = journal;
      await unguardDirectory(places);
      // Whoever starts it from here on uses it.
      const placed = await writeJournal({ ...journal, phase: 'placed', used: true });
      await placeControlFile(places);
      await removePointer(placed);
      return placed;
    },
  );
}

interface Recovered {
  readonly at: NonNullable<RewindJournal['recovered']>;
  readonly done: RewindDone;
}

/**
 * Once more, with the backup's pages and all of the log, where what was left as it is was not as it should be: a page that is
 * damaged on the disk, say, and that nothing would have read.
 */
async function rewriteAndRecover(
  run: RewindRun,
  journal: RewindJournal,
  options: RunOptions,
): Promise<Recovered> {
  try {
    return await rewriteAndRecoverBy(run, journal, options);
  } catch (error) {
    options.signal.throwIfAborted();
    const isOfPages =
      error instanceof AppError && ['RECOVERY_FAILED', 'VERIFICATION_FAILED'].includes(error.code);
    if (run.work.settled === null || !isOfPages) throw error;
    const message = `once more, with all of the log and no page left as it is: ${error.message}`;
    options.onEvent({ type: 'note', level: 'warning', message });
    const { context, manifest, state } = run;
    const work = await decideWork(context, { manifest, state, leaveSettled: false }, options.signal);
    return await rewriteAndRecoverBy({ ...run, work }, journal, options);
  }
}

async function rewriteAndRecoverBy(
  run: RewindRun,
  journal: RewindJournal,
  options: RunOptions,
): Promise<Recovered> {
  const { context, manifest, owner, state, work } = run;
  const { backup } = manifest;
  const { places } = journal;
  const targetLsn = parseLsn(journal.targetLsn);
  const beforeControl = async (): Promise<void> => {
    settleFiles(work, { places, state, backup, owner });
    await guardDirectory(places, { targetLsn: journal.targetLsn, owner });
  };
  const rewritten = await runStep(
    options.onEvent,
    {
      id: 'rewrite',
      title: 'Pages rewritten from the backup',
      detail: made => counted(made.files, 'file'),
    },
    () => rewriteFiles(context, { places, manifest, work, owner, beforeControl }, options),
  );
  const names = new Set([...state.log.files.keys()].map(path => path.slice('pg_wal/'.length)));
  const keptLog = keptPlace(places, 'pg_wal/x').slice(0, -2);
  const at = await runStep(
    options.onEvent,
    {
      id: 'replay',
      title: 'Log replayed, opened on a new timeline in isolation',
      detail: (reached: UnseenResult) => `to ${formatLsn(reached.lsn)}, timeline ${reached.timeline}`,
    },
    async () => {
      const thin = thinningOf(run);
      await using feeder = startLogFeeder(
        context,
        {
          files: logFilesOf(
            { view: run.view, backup, targetLsn },
            { names, directory: keptLog, notBefore: thin?.from ?? 0n },
          ),
          thin,
          log: { instance: journal.instance, systemIdentifier: journal.systemIdentifier },
          directory: places.log,
          owner,
          workers: context.workers,
          reuseBehind: segmentName(backup.timeline, parseLsn(backup.stopLsn), backup.walSegmentSize),
          onEvent: options.onEvent,
        },
        options.signal,
      );
      return await replayUnseen(
        {
          dataDirectory: places.dataDirectory,
          backup,
          binaries: run.binaries,
          owner,
          feeder,
          timeline: journal.timeline,
          targetLsn,
          logFile: join(places.safety, 'recovery.log'),
          atLeast: await readKeptControl(journal),
        },
        options,
      );
    },
  );
  const control = await holdControlFile(places);
  const { newLogFiles } = await finishLog(places.log, control);
  await markForArchiving(places.dataDirectory, newLogFiles, owner);
  // What is flushed while it is being read need not be waited for afterwards.
  const [touched] = await Promise.all([
    checkTouched(run, places, options),
    syncDirectories(flushedLayout(places)),
  ]);
  return {
    at: { timeline: at.timeline, lsn: formatLsn(at.lsn) },
    done: { rewritten, touched, work },
  };
}

/** How the log up to the checkpoint before the target is thinned. */
function thinningOf({ work: { settled }, view, manifest }: RewindRun): {
  readonly thinner: WalThinner;
  readonly before: string;
  readonly from: bigint;
} | null {
  if (settled === null) return null;
  const { segmentSize } = view;
  const startLsn = segmentStart(parseLsn(manifest.backup.startLsn), segmentSize);
  const { from } = settled.settling;
  return {
    thinner: createWalThinner({ segmentSize, startLsn, settled: settled.pages }),
    before: view.expectedName(from),
    from,
  };
}

async function flush({ places }: RewindJournal, options: RunOptions): Promise<void> {
  await runStep(options.onEvent, { id: 'sync', title: 'Everything flushed to disk' }, () =>
    syncDirectories(flushedLayout(places)),
  );
}

/** The control file of the live server, as it was stopped. */
export async function readKeptControl({ places }: RewindJournal): Promise<ControlFile> {
  const path = keptPlace(places, 'global/pg_control');
  return parseControlFile(await readFile(path), path);
}
