import { mkdir } from 'node:fs/promises';
import { fileError } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { formatLsn } from '../engines/postgres/lsn.ts';
import type { SlotState } from '../engines/postgres/replication-slots.ts';
import type { Alerting } from '../notify/alerting.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { Watch } from '../watch/watch.ts';
import type { WatchSettings } from '../watch/watch-settings.ts';
import { takeAgentLock } from './agent-lock.ts';
import { agentName } from './agent-names.ts';
import type { AgentPaths } from './agent-paths.ts';
import { listen } from './agent-server.ts';
import type { AgentStatus } from './agent-status.ts';
import { takeOver } from './handover.ts';
import { LogReceiver } from './log-receiver.ts';
import { type LogSystem, openLogSystem, waitingSystems } from './log-system.ts';
import { keepOutbox } from './outbox-keeper.ts';
import { keepRecoveryTime } from './recovery-time-keeper.ts';
import { type SlotWatch, startSlotWatch } from './slot-watch.ts';
import type { SpoolFile } from './spool-directory.ts';
import { readGaps } from './stream-gaps.ts';
import { SynchronousGuard } from './synchronous-guard.ts';

export interface InstanceAgentOptions {
  readonly context: InstanceContext;
  readonly paths: AgentPaths;
  /** Null: named after the instance. */
  readonly slot: string | null;
  readonly spoolLimitBytes: number;
  readonly archiveTimeoutMs: number;
  /** Null: commits do not wait. */
  readonly synchronous: { readonly watchdog: readonly string[]; readonly timeoutMs: number } | null;
  /** Null: nobody looks for disasters. */
  readonly watch: WatchSettings | null;
  /** The program and the arguments that hold a snapshot in a process of its own. */
  readonly holder: readonly string[];
  readonly alerting: Alerting;
  readonly note: TellNote;
}

/** What a run did. */
export interface InstanceAgentResult {
  readonly instance: string;
  /** How far the log is in the repository and in the spool; null when nothing was received. */
  readonly durable: string | null;
  readonly segmentsArchived: number;
  readonly partsArchived: number;
  /** What was left in the spool, because the storage did not take it in time. */
  readonly waitingBytes: number;
}

/** How long the end waits for the storage; what is not archived then stays in the spool for the next run. */
const FINISH_MS = 15_000;

/**
 * Streams, archives and answers for one instance until the signal aborts. Then nothing waits for it any more, and what it
 * has received is archived or lies in the spool.
 *
 * @throws LOCKED another agent runs; SYSTEM_MISMATCH, INSTANCE_NOT_FOUND, DATABASE_DENIED at the start; FILE_FAILED
 */
export async function runInstanceAgent(
  options: InstanceAgentOptions,
  signal: AbortSignal,
): Promise<InstanceAgentResult> {
  const { context, paths, note } = options;
  const { connection, instance } = context;
  await mkdir(paths.directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw fileError('create', paths.directory, error);
  });
  const lock = takeAgentLock(paths.lock, instance);
  const started = new Date();
  const refused = new AbortController();
  const asked = AbortSignal.any([signal, refused.signal]);
  const over = new AbortController();
  const systems = logSystems(options, () => receiver.checkRoom());
  const slot = options.slot ?? agentName(instance);
  const watch = watchOf(options);
  const receiver = new LogReceiver({
    ...options,
    slot,
    applicationName: agentName(instance),
    synchronous: options.synchronous !== null,
    system: systems.open,
    onLog: watch === null ? null : (place, lsn, bytes) => watch.push(place, lsn, bytes),
  });
  const guard = guardOf(options, receiver, error => refused.abort(error));
  try {
    // What an earlier run left is archived even if the server never answers again.
    for (const known of await waitingSystems(paths)) await systems.open(known);
    const slotWatch = startSlotWatch({ connection, slot, note, signal: over.signal });
    await using _server = await listen(paths.socket, {
      status: () => statusOf({ options, started, receiver, guard, slot: slotWatch.current(), watch }),
      archive: (name, path) => takeOver(receiver.state.system, { name, path }, asked),
      resolved: async incident => (await watch?.resolve(incident)) ?? false,
    });
    await watch?.start();
    guard?.start();
    const keeping = Promise.all([
      keepRecoveryTime(options, over.signal),
      keepOutbox(options.alerting, over.signal),
    ]);
    // Commits first stop to wait for the agent, then it stops to receive.
    void untilAborted(asked)
      .then(() => guard?.end())
      .finally(() => over.abort());
    await receiver.run(over.signal);
    over.abort();
    await slotWatch.ended;
    await keeping;
    if (refused.signal.aborted) throw refused.signal.reason;
    await systems.close();
    return resultOf(instance, receiver);
  } finally {
    over.abort();
    await guard?.end();
    await watch?.close();
    await systems.close();
    lock.release();
  }
}

function watchOf({ watch, context, paths, alerting, note, holder }: InstanceAgentOptions): Watch | null {
  if (watch === null) return null;
  return new Watch({ settings: watch, context, directory: paths.incidents, alerting, note, holder });
}

function guardOf(
  options: InstanceAgentOptions,
  receiver: LogReceiver,
  onRefused: (error: Error) => void,
): SynchronousGuard | null {
  if (options.synchronous === null) return null;
  const { watchdog, timeoutMs } = options.synchronous;
  const { note } = options;
  const health = (): ReturnType<LogReceiver['health']> => receiver.health(timeoutMs);
  return new SynchronousGuard({ command: watchdog, timeoutMs, health, note, onRefused });
}

/** The systems whose log is in the spool, each opened once. */
function logSystems(
  options: InstanceAgentOptions,
  onArchived: () => void,
): {
  open(known: { systemIdentifier: string; segmentSize: number }): Promise<LogSystem>;
  close(): Promise<void>;
} {
  const opened = new Map<string, Promise<LogSystem>>();
  return {
    open(known) {
      const present = opened.get(known.systemIdentifier);
      if (present !== undefined) return present;
      const system = openLogSystem({ ...options, onArchived }, known);
      opened.set(known.systemIdentifier, system);
      return system;
    },
    async close() {
      const all = [...opened.values()];
      opened.clear();
      await Promise.all(all.map(async system => (await system).close(FINISH_MS)));
    },
  };
}

interface Everything {
  readonly options: InstanceAgentOptions;
  readonly started: Date;
  readonly receiver: LogReceiver;
  readonly guard: SynchronousGuard | null;
  readonly slot: SlotWatch;
  readonly watch: Watch | null;
}

function statusOf({ options, started, receiver, guard, slot, watch }: Everything): AgentStatus {
  const { context, paths } = options;
  const { state, problem, system, serverLsn } = receiver.state;
  const spool = system?.spool ?? null;
  const archive = system?.archiver.state ?? null;
  const lag = spool === null || serverLsn === null ? null : Number(serverLsn - spool.flushed);
  return {
    instance: context.instance,
    pid: process.pid,
    version: context.toolVersion,
    started: started.toISOString(),
    state,
    problem,
    systemIdentifier: system?.systemIdentifier ?? null,
    timeline: spool?.timeline ?? null,
    received: spool === null ? null : formatLsn(spool.written),
    durable: spool === null ? null : formatLsn(spool.flushed),
    server: serverLsn === null ? null : formatLsn(serverLsn),
    lagBytes: lag === null ? null : Math.max(0, lag),
    archive: {
      lastSegment: archive?.lastSegment ?? null,
      lastSegmentAt: isoOrNull(archive?.lastSegmentAtMs ?? null),
      part: archive?.part == null ? null : `${archive.part.segment} up to byte ${archive.part.to}`,
      partAt: isoOrNull(archive?.part?.atMs ?? null),
      segments: archive?.segments ?? 0,
      parts: archive?.parts ?? 0,
      problem: archive?.problem ?? null,
    },
    spool: {
      directory: paths.directory,
      waitingBytes: system?.directory.unarchivedBytes() ?? 0,
      waitingSegments: archive?.waiting ?? 0,
      limitBytes: options.spoolLimitBytes,
    },
    slot: slot.slot === null ? null : slotStatus(slot.slot, slot.warning),
    synchronous: guard?.state ?? 'off',
    gaps: readGaps(paths.gaps),
    watch: watch?.status() ?? null,
  };
}

function slotStatus({ restartLsn, ...slot }: SlotState, warning: string | null): AgentStatus['slot'] {
  return { ...slot, restart: restartLsn === null ? null : formatLsn(restartLsn), warning };
}

function resultOf(instance: string, receiver: LogReceiver): InstanceAgentResult {
  const { system } = receiver.state;
  const archive = system?.archiver.state;
  return {
    instance,
    durable: system?.spool == null ? null : formatLsn(system.spool.flushed),
    segmentsArchived: archive?.segments ?? 0,
    partsArchived: archive?.parts ?? 0,
    waitingBytes: system?.directory.list().reduce(waitingBytes, 0) ?? 0,
  };
}

/** Of a segment that was not full, what is not archived as a piece is not told apart: it is all archived, or all waits. */
function waitingBytes(sum: number, file: SpoolFile): number {
  return file.state === 'full' ? sum + file.sizeBytes : sum;
}

function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve(), { once: true }));
}
