import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { runningServer } from '../../engines/postgres/data-directory.ts';
import { stopLeftOver } from '../../engines/postgres/isolated-server-process.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { readChanges } from '../log/log-summaries.ts';
import { openLogView } from '../log/log-view.ts';
import { compareLiveLog } from '../log/same-log.ts';
import { secureHistory, secureStoppedLog } from '../log/secure-live-log.ts';
import { recordGoBack } from '../restore/record-recovery.ts';
import { syncDirectories } from '../restore/recover-directory.ts';
import { waitUntilOpen } from '../restore/restore-in-place.ts';
import { lockDataDirectory } from '../restore/restore-lock.ts';
import { type BroughtBack, bringBack, type UsedSince } from './bring-back.ts';
import { moveFile } from './durable-files.ts';
import { placeControlFile } from './guard.ts';
import {
  findUnfinished,
  pointToJournal,
  type RewindJournal,
  readJournal,
  refuseOther,
  removePointer,
  writeJournal,
} from './journal.ts';
import { findLiveLogEnd, readSegments } from './live-log-end.ts';
import { flushedLayout, keptPlace, livePlace, ownerOfFiles } from './places.ts';
import { serviceOf } from './resume-rewind.ts';
import { undoSaving } from './rewind.ts';
import { whyNotAllSince } from './rewind-check.ts';
import { archivedFrom } from './rewind-log.ts';
import { readKeptControl } from './rewind-run.ts';
import { exists, removeSafetyCopy } from './safety-copy.ts';
import { readMapSince, readSavedState, type SavedState, writeMapSince } from './saved-state.ts';
import { hashControlFile, holdUsedControlFile } from './take-control-file.ts';

/** What going back needs. The repository is only needed once the rewound database was used. */
export type GoBackContext = Pick<InstanceContext, 'instance' | 'connection' | 'service' | 'binaries'> & {
  readonly whole: InstanceContext | null;
};

export interface GoBackReport {
  readonly instance: string;
  /** The safety copy that was used up. */
  readonly safety: string;
  readonly dataDirectory: string;
  /** Where the rewind that is undone had gone. */
  readonly requested: string;
  /** The timeline that the instance is on again, and the one that was given up; null: there never was one. */
  readonly timeline: number;
  readonly abandonedTimeline: number | null;
  readonly broughtBack: BroughtBack | null;
  readonly started: boolean;
  readonly service: string;
  readonly seconds: number;
}

export interface GoBackOptions extends RunOptions {
  /** Asked before anything is changed; throws to refuse. */
  readonly confirm: (
    facts: Pick<GoBackReport, 'instance' | 'dataDirectory' | 'requested'> & { readonly used: boolean },
  ) => Promise<void>;
}

/**
 * Brings back the exact state from before a rewind, from its safety copy: of a rewind that was cut off wherever it was, and of
 * one that was finished and used since, whose later changes are then given up (its log stays in the archive).
 */
export async function goBack(
  context: GoBackContext,
  safety: string,
  options: GoBackOptions,
): Promise<GoBackReport> {
  const startedAt = performance.now();
  const found = await readJournal(safety);
  const { places, requested } = found;
  if (found.instance !== context.instance) {
    throw new AppError('USAGE', `the safety copy '${safety}' is of instance '${found.instance}'`, {
      hint: `Name it: --instance ${found.instance}`,
    });
  }
  using _lock = lockDataDirectory(places.dataDirectory);
  await refuseOther(found);
  await refuseOverlapping(found);
  const service = await serviceOf(context, found);
  const { dataDirectory } = places;
  await options.confirm({ instance: found.instance, dataDirectory, requested, used: found.used });
  const broughtBack = await undo(context, { found, service }, options);
  const started = await startAgain(context, { found, service }, options);
  if (context.whole !== null) await recordGoBack(context.whole, places.safety, options.onEvent);
  return {
    ...{ instance: found.instance, safety: places.safety, dataDirectory, requested, broughtBack, started },
    timeline: found.timeline,
    abandonedTimeline: found.recovered?.timeline ?? null,
    service: service.description,
    seconds: (performance.now() - startedAt) / 1000,
  };
}

async function undo(
  context: GoBackContext,
  { found, service }: { readonly found: RewindJournal; readonly service: Service },
  options: RunOptions,
): Promise<BroughtBack | null> {
  let broughtBack: BroughtBack | null = null;
  let journal = found;
  // Once everything is back a server may run there, and keep what it has written.
  if (journal.phase !== 'returned') {
    const state = await readSavedState(found.places.safety);
    await stopServer(found, service, options);
    if (found.phase === 'saving') {
      await undoSaving(state, found);
      return null;
    }
    broughtBack = await goBackFully(context, { found, state }, options);
    journal = await writeJournal({ ...found, phase: 'returned' });
  }
  await placeOldControlFile(journal);
  await removePointer(journal);
  await removeSafetyCopy(journal.places);
  return broughtBack;
}

/** From here on it is the database from before the rewind. May have been cut off before. */
async function placeOldControlFile({ places }: RewindJournal): Promise<void> {
  const control = 'global/pg_control';
  const [kept, live] = [keptPlace(places, control), livePlace(places, control)];
  if (await exists(kept)) {
    // In both places when it was copied from another file system, and not removed there: the live one may have been used.
    if (await exists(live)) await rm(kept);
    else await moveFile(kept, live);
  }
  await syncDirectory(dirname(live));
}

async function goBackFully(
  context: GoBackContext,
  from: { readonly found: RewindJournal; readonly state: SavedState },
  options: RunOptions,
): Promise<BroughtBack> {
  const { found, state } = from;
  const { places } = found;
  const isRead = found.used && found.phase !== 'going-back';
  // A verification before opening may have been cut off with the control file held back: it is read, then goes.
  if (isRead) await placeControlFile(places);
  const controlHash = isRead ? await hashControlFile(places) : null;
  const used = found.used ? await changesSince(needRepository(context), found, options) : null;
  if (controlHash !== null) await giveUp(found, controlHash);
  const journal = await writeJournal({ ...found, phase: 'going-back' });
  await pointToJournal(journal);
  const { tablespaceVersionDirectory } = journal;
  const owner = await ownerOfFiles(places.dataDirectory);
  const broughtBack = await runStep(
    options.onEvent,
    {
      id: 'bring-back',
      title: 'State before the rewind brought back',
      detail: done =>
        `${counted(done.movedFiles, 'file')}, ${Math.round((done.pagesBytes + done.fromBackupBytes) / 1e6)} MB of pages`,
    },
    () => bringBack({ journal, state, used, tablespaceVersionDirectory, owner }, options),
  );
  await runStep(options.onEvent, { id: 'sync', title: 'Everything flushed to disk' }, () =>
    syncDirectories(flushedLayout(places)),
  );
  return broughtBack;
}

/** From here on the rewound database cannot be started any more; whoever finds it so is told why. */
async function giveUp(found: RewindJournal, controlHash: string): Promise<void> {
  await pointToJournal(found);
  try {
    await holdUsedControlFile(found.places, controlHash);
  } catch (error) {
    if (found.phase === 'placed') await removePointer(found);
    throw error;
  }
}

/**
 * What the rewound database has changed, from its log; and that log into the archive, as it is about to be given up.
 *
 * @throws REWIND_IMPOSSIBLE when that is not known any more
 */
async function changesSince(
  context: InstanceContext,
  journal: RewindJournal,
  options: RunOptions,
): Promise<UsedSince> {
  const { places, instance, systemIdentifier, recovered } = journal;
  const manifest = await manifestOf(context, journal, options.signal);
  if (journal.phase === 'going-back') return { context, manifest, map: await readMapSince(places.safety) };
  const control = await readControlFile(places.dataDirectory);
  const map = await runStep(
    options.onEvent,
    {
      id: 'changes-since',
      title: 'Changes since the rewind found in the log',
      detail: found => counted(found.forks.size, 'file'),
    },
    async (): Promise<ChangeMap> => {
      const owner = { instance, systemIdentifier };
      const { timeline } = control.checkpoint;
      await secureHistory(context, { owner, dataDirectory: places.dataDirectory, timeline }, options.signal);
      await secureStoppedLog(context, { owner, dataDirectory: places.dataDirectory }, options.signal);
      const source = { owner, segmentSize: control.walSegmentSize, timeline, backupTimelines: [] };
      const view = await openLogView(context.repository, source, options.signal);
      const begin = parseLsn(recovered?.lsn ?? '0/0');
      if (!view.chain.some(step => step.timeline === recovered?.timeline && step.begin === begin))
        throw tooLate(journal, 'the instance is on another timeline by now');
      const archived = archivedFrom(view, begin);
      const span = { from: begin, to: archived - 1n };
      const { foreign } = await compareLiveLog(view, places.log, span);
      if (foreign !== null) throw tooLate(journal, `segment ${foreign} of its log is not the archived one`);
      const checkpoint = control.checkpoint.lsn;
      const from = checkpoint < archived ? checkpoint : archived;
      const end = await findLiveLogEnd(places.log, { control, from });
      if (typeof end === 'string') throw tooLate(journal, end);
      const extra = readSegments(end.segments.filter(segment => segment.lsn >= archived));
      const range = { from: begin, to: end.endLsn, target: null };
      return await readChanges(context, view, range, { signal: options.signal, extra });
    },
  );
  const why = whyNotAllSince(map, control, await readKeptControl(journal));
  if (why !== null) throw tooLate(journal, why);
  await writeMapSince(places.safety, map);
  return { context, manifest, map };
}

async function manifestOf(
  context: InstanceContext,
  journal: RewindJournal,
  signal: AbortSignal,
): Promise<Manifest> {
  const { instance, backup: id } = journal;
  const manifest = await openManifest(context.repository, { instance, id }, { signal });
  if (manifest !== null) return manifest;
  throw tooLate(journal, `backup '${id}' is not there any more`);
}

function tooLate(journal: RewindJournal, why: string): AppError {
  return new AppError('REWIND_IMPOSSIBLE', `unable to go back with the safety copy: ${why}`, {
    hint: `The state from before the rewind can be restored from the repository: aishell backup restore --latest --timeline ${journal.timeline} --full`,
  });
}

function needRepository({ whole }: GoBackContext): InstanceContext {
  if (whole !== null) return whole;
  throw new AppError('STORAGE_UNREACHABLE', 'unable to go back without the repository', {
    hint: 'The rewound database was used, so pages that were changed since come from the backup. Bring the repository back first.',
  });
}

async function stopServer(found: RewindJournal, service: Service, options: RunOptions): Promise<void> {
  const { dataDirectory } = found.places;
  if (found.phase !== 'placed') return await stopLeftOver(dataDirectory);
  if ((await runningServer(dataDirectory)) === null) return;
  await runStep(
    options.onEvent,
    { id: 'stop', title: 'Server stopped', detail: () => service.description },
    () => service.stop({ mode: 'fast', signal: options.signal }),
  );
}

/** It runs again when it ran before the rewind. */
async function startAgain(
  context: GoBackContext,
  from: { readonly found: RewindJournal; readonly service: Service },
  options: RunOptions,
): Promise<boolean> {
  const { found, service } = from;
  if (!found.wasRunning) return false;
  await runStep(
    options.onEvent,
    { id: 'start', title: 'Server started', detail: () => service.description },
    async () => {
      await service.start({ signal: options.signal });
      await waitUntilOpen(context, options.signal);
    },
  );
  return true;
}

/** A later rewind of the same directory has its own safety copy, and must be undone first. */
async function refuseOverlapping(journal: RewindJournal): Promise<void> {
  const unfinished = await findUnfinished(journal.places.dataDirectory);
  if (unfinished === null || unfinished.places.safety === journal.places.safety) return;
  throw new AppError('LOCKED', 'another rewind of this instance is not finished', {
    hint: `Go back to the state before that one first: aishell backup restore --go-back ${unfinished.places.safety}`,
  });
}
