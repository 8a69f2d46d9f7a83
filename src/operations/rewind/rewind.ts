import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted, formatCount } from '../../base/sizes.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { type LogView, reopenLogView } from '../log/log-view.ts';
import { secureStoppedLog } from '../log/secure-live-log.ts';
import type { LiveInstance } from '../restore/live-instance.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { syncDirectories } from '../restore/recover-directory.ts';
import { checkSpace } from '../restore/target-directory.ts';
import { rewindLogOf } from './assess-rewind.ts';
import { decideWork, type RewindWork } from './decide-work.ts';
import { encodeRequest } from './encode-request.ts';
import { pointToJournal, type RewindJournal, removePointer, writeJournal } from './journal.ts';
import { KEEPING_COSTS } from './page-rules.ts';
import { findPlaces, flushedLayout, ownerOfFiles, type Places } from './places.ts';
import { whyNotTheseFiles, whyNotThisDirectory, whyNotThisLog } from './rewind-check.ts';
import { type BegunLog, readWholeChanges, whyStandbyHints } from './rewind-log.ts';
import type { RewindRun } from './rewind-run.ts';
import { findSpGist } from './rewind-work.ts';
import { bringBackMoved, keepLive, makeSafetyDirectory, removeSafetyCopy } from './safety-copy.ts';
import { type SavedState, writeSavedState } from './saved-state.ts';
import { listLogDirectory, listServerFiles } from './server-files.ts';
import { hashControlFile, takeControlFile } from './take-control-file.ts';

/** A rewind that is planned, possible and confirmed. */
export interface Rewinding {
  readonly plan: RecoveryPlan;
  readonly live: LiveInstance;
  readonly service: Service;
  readonly binaries: Binaries;
  readonly stamp: string;
  /** What of the log was read already, for the plan's target. */
  readonly begun: BegunLog | null;
  /** For people. */
  readonly requested: string;
}

/** A rewind whose safety copy is whole and on the disk. */
export interface BegunRewind {
  readonly run: RewindRun;
  readonly journal: RewindJournal;
}

/**
 * Begins a rewind of a stopped server: reads its log to the very end, decides about every file and page, and puts aside all
 * that is going to be changed. Until it resolves nothing was written over; a failure puts everything back.
 *
 * @throws REWIND_IMPOSSIBLE when what is known only now forbids it
 */
export async function beginRewind(
  context: InstanceContext,
  rewinding: Rewinding,
  options: RunOptions,
): Promise<BegunRewind> {
  const { plan, live } = rewinding;
  const decided = await runStep(
    options.onEvent,
    {
      id: 'rewind-plan',
      title: 'Every page accounted for',
      detail: ({ work: { amount } }) =>
        `${formatCount(amount.pagesFromBackup)} from the backup, ${formatCount(amount.pagesLeft)} left to the log${amount.pagesSettled === 0 ? '' : `, ${formatCount(amount.pagesSettled)} right already`}`,
    },
    () => decide(context, rewinding, options),
  );
  const { places, controlHash, view, state, work, endLsn, targetLsn } = decided;
  const neededBytes =
    work.amount.keptBytes + work.amount.writtenBytes + work.amount.copiedBytes + logBytes(plan);
  await checkSpace(places.dataDirectory, neededBytes);
  await secureTail(context, live, options);
  const made = await makeSafetyDirectory(places);
  const first: RewindJournal = {
    format: state.settling === null ? 1 : 2,
    phase: 'saving',
    instance: context.instance,
    places: made,
    request: encodeRequest({ target: plan.request, timeline: plan.timeline }),
    requested: rewinding.requested,
    backup: plan.backup.id,
    tablespaceVersionDirectory: plan.backup.tablespaceVersionDirectory,
    systemIdentifier: plan.backup.systemIdentifier,
    timeline: plan.timeline,
    startLsn: plan.backup.startLsn,
    targetLsn: formatLsn(targetLsn),
    endLsn: formatLsn(endLsn),
    lastKept: edge(plan.resolved.lastKept),
    firstDropped: edge(plan.resolved.firstDropped),
    wasRunning: live.running,
    controlHash,
    binaries: rewinding.binaries.directory,
    pageFiles: [],
    recovered: null,
    used: false,
    ...{ bootId: '', pid: 0, processStart: '' },
  };
  const owner = await ownerOfFiles(places.dataDirectory);
  const { binaries } = rewinding;
  const run: RewindRun = { context, manifest: plan.manifest, view, state, work, binaries, owner };
  const journal = await save(run, first, options);
  return { run, journal };
}

async function decide(
  context: InstanceContext,
  rewinding: Rewinding,
  { signal }: RunOptions,
): Promise<{
  readonly places: Places;
  readonly controlHash: string;
  readonly view: LogView;
  readonly state: SavedState;
  readonly work: RewindWork;
  readonly endLsn: bigint;
  readonly targetLsn: bigint;
}> {
  const { plan, live, stamp } = rewinding;
  const places = await findPlaces(live.dataDirectory, stamp);
  const controlHash = await hashControlFile(live);
  const control = await readControlFile(live.dataDirectory);
  refuse(await whyNotThisDirectory(plan, live, places));
  // A server that ran on since the plan may have archived segments, and removed them.
  const view = await reopenLogView(context.repository, plan.view, signal);
  const planned = rewindLogOf({ ...plan, view });
  refuse(await whyStandbyHints(context, planned, signal));
  const where = { control, logDirectory: places.log, begun: rewinding.begun };
  const whole = await readWholeChanges(context, planned, where, signal);
  if (typeof whole === 'string') throw impossible(whole);
  const { map, settling, endLsn } = whole;
  refuse(whyNotThisLog(map, map.events, { checksums: plan.backup.pageChecksums }));
  const found = listServerFiles(places, plan.backup.tablespaceVersionDirectory);
  refuse(whyNotTheseFiles(found));
  const state: SavedState = {
    live: found,
    log: listLogDirectory(places),
    spGist: findSpGist(places, found, map),
    map,
    keepingCosts: KEEPING_COSTS,
    settling,
  };
  const work = await decideWork(context, { manifest: plan.manifest, state, leaveSettled: true }, signal);
  const { neededDamage } = work;
  refuse(neededDamage === null ? null : `${neededDamage} is damaged in the backup, and would be needed`);
  const at = planned.isToEnd ? endLsn : planned.targetLsn;
  return { places, controlHash, view, state, work, endLsn, targetLsn: at };
}

/** From here on the rewind is known in its directory, and goes on or is undone. */
async function save(run: RewindRun, first: RewindJournal, options: RunOptions): Promise<RewindJournal> {
  const { places } = first;
  try {
    await writeSavedState(places.safety, run.state);
    const saving = await writeJournal(first);
    await pointToJournal(saving);
    return await saveLive(run, saving, options);
  } catch (error) {
    await undoSaving(run.state, first);
    throw error;
  }
}

/** Puts everything aside that is going to be changed, and that onto the disk. May have been cut off before. */
export async function saveLive(
  run: RewindRun,
  journal: RewindJournal,
  options: RunOptions,
): Promise<RewindJournal> {
  const { places } = journal;
  const kept = await runStep(
    options.onEvent,
    {
      id: 'keep',
      title: 'Present state kept',
      detail: made => `${counted(made.movedFiles, 'file')}, ${Math.round(made.keptBytes / 1e6)} MB of pages`,
    },
    async () => {
      const { manifest, state, work } = run;
      await takeControlFile(places, journal.controlHash);
      const made = await keepLive(run.context, { places, manifest, state, work }, options);
      await syncDirectories(flushedLayout(places));
      return made;
    },
  );
  return await writeJournal({ ...journal, phase: 'rewriting', pageFiles: kept.pageFiles });
}

/** Puts back what was put aside: nothing was written over yet. */
export async function undoSaving(state: SavedState, journal: RewindJournal): Promise<void> {
  await bringBackMoved(journal.places, state);
  await removePointer(journal);
  await removeSafetyCopy(journal.places);
}

/** What the server committed while it was being stopped is in no plan, but belongs into the archive all the same. */
async function secureTail(context: InstanceContext, live: LiveInstance, options: RunOptions): Promise<void> {
  const owner = { instance: context.instance, systemIdentifier: live.systemIdentifier };
  try {
    await secureStoppedLog(context, { owner, dataDirectory: live.dataDirectory }, options.signal);
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    // The safety copy has it, and nothing that is done here depends on it.
    const message = `the last of the log is only in the safety copy, not in the archive: ${error.message}`;
    options.onEvent({ type: 'note', level: 'warning', message });
  }
}

function refuse(reason: string | null): void {
  if (reason !== null) throw impossible(reason);
}

/** @returns the refusal of a rewind that cannot be made */
export function impossible(reason: string): AppError {
  return new AppError('REWIND_IMPOSSIBLE', `unable to rewind in place: ${reason}`, {
    hint: 'Restore all of the backup instead, with --full.',
  });
}

function logBytes(plan: RecoveryPlan): number {
  return Math.min(plan.logBytes, 64 * plan.backup.walSegmentSize);
}

function edge(of: RecoveryPlan['resolved']['lastKept']): RewindJournal['lastKept'] {
  return of === null ? null : { xid: of.xid, timeUs: String(of.timeUs), lsn: formatLsn(of.lsn) };
}
