import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { stopLeftOver } from '../../engines/postgres/isolated-server-process.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { type Binaries, findBinaries } from '../../engines/postgres/service-binaries.ts';
import { type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogView, openLogView } from '../log/log-view.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import type { EdgeTransaction } from '../restore/recovery-request.ts';
import { type RestoreReport, type RestoreWay, reportOf } from '../restore/restore-report.ts';
import type { RestoreOptions } from '../restore/restore-request.ts';
import { withHint } from '../restore/stop-live-server.ts';
import { completeRewind, goBackCommand, resumeCommand } from './complete-rewind.ts';
import { decideWork } from './decide-work.ts';
import { decodeRequest, encodeRequest, type RewindRequest } from './encode-request.ts';
import { showOptions } from './guard.ts';
import { type RewindJournal, refuseOther, removePointer, takeOver } from './journal.ts';
import { keptPlace, ownerOfFiles } from './places.ts';
import { saveLive, undoSaving } from './rewind.ts';
import { outcomeOf, safetyOf, tellOpen } from './rewind-in-place.ts';
import { exists, removeSafetyCopy } from './safety-copy.ts';
import { readSavedState, type SavedState } from './saved-state.ts';

export interface Resuming {
  /** Null: `--resume`, whatever it was. */
  readonly asked: RewindRequest | null;
  readonly verifyBeforeOpen: boolean;
  readonly dryRun: boolean;
  readonly startedAt: number;
}

/**
 * Goes on with a rewind that was cut off, from wherever it is.
 *
 * @throws LOCKED when another run works on it; CONFLICT when something else is asked for
 */
export async function resumeRewind(
  context: InstanceContext,
  found: RewindJournal,
  resuming: Resuming,
  options: RestoreOptions,
): Promise<RestoreReport> {
  await refuseOther(found);
  refuseAnother(found, resuming.asked);
  const { places } = found;
  const { startedAt } = resuming;
  const { manifest, view, state } = await runStep(
    options.onEvent,
    { id: 'resume', title: 'A rewind that was cut off is gone on with', detail: () => found.requested },
    () => openRewind(context, found, options.signal),
  );
  // Something may have been replayed over pages that were settled; where nothing was, it only takes longer.
  const work = await decideWork(context, { manifest, state, leaveSettled: false }, options.signal);
  const { amount } = work;
  const service = await serviceOf(context, found);
  const binaries = await binariesOf(context, found, manifest);
  const report = {
    ...{ context, live: null, service: service.description, mode: 'in-place' as const },
    ...{ plan: planOf(found, manifest, view), way: resumedWay, safety: safetyOf(found) },
  };
  const planned = {
    ...{ ...report, dryRun: true, recovered: null, downtimeSeconds: null },
    rewind: { amount, done: null },
  };
  if (resuming.dryRun) return reportOf({ ...planned, seconds: 0 });
  const before = reportOf({ ...planned, seconds: 0 });
  await options.confirm('instance', before);
  await options.confirm('ready', before);
  if (found.phase !== 'placed') await stopLeftOver(places.dataDirectory);
  const owner = await ownerOfFiles(places.dataDirectory);
  const run = { context, manifest, view, state, work, binaries, owner };
  let journal = await takeOver(found);
  if (journal.phase === 'saving') journal = await saveOrUndo(run, journal, { service, options });
  const onOpen = (): void => tellOpen(options, { startedAt, stoppedAt: null });
  const opening = { service, verifyBeforeOpen: resuming.verifyBeforeOpen, onOpen };
  const completed = await completeRewind(run, journal, opening, options);
  return reportOf({
    ...report,
    dryRun: false,
    seconds: (completed.openedAt - startedAt) / 1000,
    // How long it was down before this run, nobody knows.
    downtimeSeconds: null,
    ...outcomeOf(completed, amount),
  });
}

/**
 * Forgets a rewind that was cut off before it had touched anything: the control file, which goes first, is still in its place,
 * and the server may have run since. False: it had.
 */
export async function forgetUntouched(journal: RewindJournal): Promise<boolean> {
  if (journal.phase !== 'saving' || (await exists(keptPlace(journal.places, 'global/pg_control'))))
    return false;
  await refuseOther(journal);
  await removePointer(journal);
  await removeSafetyCopy(journal.places);
  return true;
}

/** What a rewind works with, from its journal. @throws BACKUP_NOT_FOUND, CORRUPT, LOG_NOT_FOUND */
export async function openRewind(
  context: InstanceContext,
  journal: RewindJournal,
  signal: AbortSignal,
): Promise<{ readonly manifest: Manifest; readonly view: LogView; readonly state: SavedState }> {
  const { instance, backup: id, systemIdentifier, timeline } = journal;
  const state = await readSavedState(journal.places.safety);
  const manifest = await openManifest(context.repository, { instance, id }, { signal });
  if (manifest === null) {
    throw new AppError('BACKUP_NOT_FOUND', `backup '${id}' of the unfinished rewind is not there any more`, {
      hint: `Bring back the state before it: ${goBackCommand(journal)}`,
    });
  }
  const source = {
    owner: { instance, systemIdentifier },
    segmentSize: manifest.backup.walSegmentSize,
    timeline,
    backupTimelines: [manifest.backup.timeline],
  };
  return { manifest, state, view: await openLogView(context.repository, source, signal) };
}

/** The programs that the server ran with. */
export async function binariesOf(
  context: Pick<InstanceContext, 'binaries'>,
  journal: RewindJournal,
  { backup }: Manifest,
): Promise<Binaries> {
  const configured = context.binaries ?? journal.binaries;
  return await findBinaries(Math.trunc(backup.serverVersion / 10_000), { configured });
}

/** The service of an instance whose rewind was cut off: what it was started with is in the safety copy. */
export async function serviceOf(
  context: Pick<InstanceContext, 'service' | 'binaries'>,
  journal: RewindJournal,
): ReturnType<typeof detectService> {
  const { places } = journal;
  await showOptions(places);
  return await detectService(places.dataDirectory, {
    setting: context.service,
    binaries: context.binaries ?? journal.binaries,
  });
}

async function saveOrUndo(
  run: Parameters<typeof saveLive>[0],
  journal: RewindJournal,
  by: { readonly service: { readonly startCommand: string }; readonly options: RestoreOptions },
): Promise<RewindJournal> {
  try {
    return await saveLive(run, journal, by.options);
  } catch (error) {
    await undoSaving(run.state, journal);
    throw withHint(
      error,
      `The old state is untouched; start it with: ${by.service.startCommand}`,
      by.options,
    );
  }
}

function refuseAnother(journal: RewindJournal, asked: RewindRequest | null): void {
  if (journal.phase === 'going-back' || journal.phase === 'returned') {
    throw new AppError('LOCKED', 'going back to the state before a rewind was cut off', {
      hint: `Finish that: ${goBackCommand(journal)}`,
    });
  }
  if (asked === null || encodeRequest(asked) === journal.request) return;
  throw new AppError(
    'LOCKED',
    `a rewind of this instance to ${journal.requested} was cut off and is not finished`,
    {
      hint: `To finish it: ${resumeCommand(journal)}. To bring back the state before it: ${goBackCommand(journal)}`,
    },
  );
}

const resumedWay: RestoreWay = {
  kind: 'rewind',
  reason: 'a rewind that was cut off is finished',
  rewindSeconds: null,
  fullSeconds: null,
};

function planOf(journal: RewindJournal, manifest: Manifest, view: LogView): RecoveryPlan {
  const { backup } = manifest;
  const { target } = decodeRequest(journal.request);
  const to = parseLsn(journal.targetLsn);
  return {
    backup,
    manifest,
    view,
    request: target,
    resolved: {
      lsn: target.kind === 'latest' ? null : to,
      lastKept: edge(journal.lastKept),
      firstDropped: edge(journal.firstDropped),
      found: null,
    },
    toBackupEnd: false,
    timeline: journal.timeline,
    passedOver: [],
    logFiles: [],
    backupBytes: backup.sizeBytes,
    logBytes: Number(to - parseLsn(backup.startLsn)),
    loss: null,
  };
}

function edge(of: RewindJournal['lastKept']): EdgeTransaction | null {
  return of === null ? null : { xid: of.xid, timeUs: BigInt(of.timeUs), lsn: parseLsn(of.lsn) };
}
