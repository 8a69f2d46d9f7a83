import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../base/abort.ts';
import { AppError, messageOf } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { formatBytes } from '../base/sizes.ts';
import { withConnection } from '../engines/postgres/connection.ts';
import { formatLsn, segmentStart } from '../engines/postgres/lsn.ts';
import { openReplication, type ReplicationConnection } from '../engines/postgres/replication-connection.ts';
import { readMajorVersion } from '../engines/postgres/server-facts.ts';
import { startWalStream, type TimelineEnd, type WalStream } from '../engines/postgres/wal-receiver.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { historyName, parseHistory, type TimelineStart } from '../operations/log/log-view.ts';
import { checkIdentity } from '../repository/identity.ts';
import type { AgentPaths } from './agent-paths.ts';
import { archivedUpTo, archiveEnd, type LogSystem } from './log-system.ts';
import { paceReports } from './report-pace.ts';
import { type ResumePosition, resumePosition, timelineAt } from './resume-position.ts';
import { refuseSetBack } from './set-back.ts';
import { spoolEnds, sureEnds } from './spool-directory.ts';
import { describeGap, ensureSlot, firstAvailable, recordGap } from './stream-gaps.ts';
import { WalSpool } from './wal-spool.ts';

export interface LogReceiverOptions {
  readonly context: InstanceContext;
  readonly paths: AgentPaths;
  readonly slot: string;
  /** Of the session, as `pg_stat_replication` and `synchronous_standby_names` know it. */
  readonly applicationName: string;
  readonly spoolLimitBytes: number;
  /** True where commits wait: `remote_apply` then means what is durable here, as nothing is applied. */
  readonly synchronous: boolean;
  /** The log of a system, opened when first asked for. */
  readonly system: (known: { systemIdentifier: string; segmentSize: number }) => Promise<LogSystem>;
  /** Sees what is received, when it is in the spool; the bytes are valid during the call. It never throws. */
  readonly onLog: ((place: LogPlace, lsn: bigint, bytes: Uint8Array) => void) | null;
  readonly note: TellNote;
}

export interface LogPlace {
  readonly systemIdentifier: string;
  readonly segmentSize: number;
  readonly timeline: number;
  /** How far the server's log was when it was connected to. */
  readonly serverLsn: bigint;
}

export interface ReceiverState {
  readonly state: 'connecting' | 'streaming' | 'spool full' | 'stopping';
  readonly problem: string | null;
  readonly system: LogSystem | null;
  /** Where the server was when it last said so. */
  readonly serverLsn: bigint | null;
}

/** What ends a session that is not the server's doing. */
class SpoolFull extends Error {}

/** A slot that the dead agent before this one used is free when the server has noticed. */
const SLOT_PATIENCE_MS = 10_000;
const RETRY_MS = [100, 250, 500, 1000, 2000, 5000];
const STATUS_EVERY_MS = 1000;
/** Where commits wait, the server is asked for a sign of life with every status: a few that stay unanswered are a lost connection. */
const HEARD_MS = 3 * STATUS_EVERY_MS;
/** In seconds: how soon a spool that is too full is noticed while no segment becomes full. */
const ROOM_EVERY = 5;
/** Nobody waits for what is received, but no commit is to be later on the disk than by this. */
const GATHER_MS = 2;
/** Nor for hearing of it: how long what was flushed last may be untold, which is how far pg_stat_replication is behind. */
const REPORT_AGAIN_MS = 100;
/** As wal_receiver_timeout of a standby: half of it in silence, then a question, then the end. */
const SILENCE_MS = 30_000;
/** The spool is used again when this much of its limit is free. */
const ROOM = 0.1;

/** Errors that another attempt does not cure. Later they may be somebody's passing mistake; at the start nobody has seen them. */
const fatalAtStart = ['LOCKED', 'SYSTEM_MISMATCH', 'INSTANCE_NOT_FOUND', 'ENGINE_VERSION', 'DATABASE_DENIED'];

/** Receives the log of one instance into its spool until it is told to stop, whatever happens to the server meanwhile. */
export class LogReceiver {
  readonly #options: LogReceiverOptions;
  readonly #startedMs = performance.now();
  readonly #checked = new Set<string>();
  #state: ReceiverState = { state: 'connecting', problem: null, system: null, serverLsn: null };
  #hasStreamed = false;
  /** Where to go on behind a hole. */
  #behindGap: ResumePosition | null = null;
  #session: AbortController | null = null;
  #stream: WalStream | null = null;

  constructor(options: LogReceiverOptions) {
    this.#options = options;
  }

  get state(): ReceiverState {
    return this.#state;
  }

  /** Whether what is received reaches the disk in time, and whether that is nearly all the server has. */
  health(patienceMs: number): { readonly ok: boolean; readonly caughtUp: boolean } {
    const { state, system, serverLsn } = this.#state;
    const spool = system?.spool ?? null;
    if (state !== 'streaming' || spool === null || system === null) return { ok: false, caughtUp: false };
    const lag = serverLsn === null ? 0n : serverLsn - spool.flushed;
    const isHeard = (this.#stream?.silentMs() ?? 0) < HEARD_MS;
    return { ok: isHeard && spool.unflushedMs() < patienceMs, caughtUp: lag <= BigInt(system.segmentSize) };
  }

  /** Receives until the signal aborts. @throws what another attempt would not cure, while nothing was received yet */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const startedMs = performance.now();
      try {
        await this.#connectAndStream(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof SpoolFull) {
          await this.#waitForRoom(signal);
          continue;
        }
        this.#throwIfFatal(error);
        this.#tell(error);
        if (performance.now() - startedMs > RETRY_MS.at(-1)!) failures = 0;
        await sleep(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)], undefined, { signal }).catch(
          () => undefined,
        );
        failures += 1;
      }
    }
    this.#state = { ...this.#state, state: 'stopping' };
  }

  /** A segment came into the spool, or something left it. */
  checkRoom(): void {
    const { system } = this.#state;
    if (system === null || system.directory.unarchivedBytes() <= this.#limitOf(system)) return;
    this.#session?.abort(new SpoolFull());
  }

  async #connectAndStream(signal: AbortSignal): Promise<void> {
    const { context, applicationName } = this.#options;
    this.#session = new AbortController();
    const stop = AbortSignal.any([signal, this.#session.signal]);
    await using replication = await openReplication(context.connection, { applicationName, signal: stop });
    const identity = await replication.identify();
    const system = await this.#systemOf(identity.systemIdentifier, replication, stop);
    this.#state = { ...this.#state, state: 'connecting', system };
    const chain = await readChain(replication, system, identity.timeline);
    let position = await this.#position(system, { ...identity, chain }, stop);
    try {
      for (;;) {
        const target = { system, position, serverLsn: identity.flushLsn };
        const { nextTimeline, lsn } = await this.#receive(replication, target, stop);
        this.#options.note('info', `timeline ${position.timeline} ended at ${formatLsn(lsn)}`, {
          topic: 'timeline',
          timeline: nextTimeline,
        });
        await readChain(replication, system, nextTimeline);
        position = { timeline: nextTimeline, lsn: segmentStart(lsn, system.segmentSize) };
      }
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'LOG_NOT_FOUND' || stop.aborted) throw error;
      await this.#passGap(system, { ...identity, position }, stop);
    }
  }

  /** The log of the system that answers, which must be one that this instance is known by. */
  async #systemOf(
    systemIdentifier: string,
    replication: ReplicationConnection,
    signal: AbortSignal,
  ): Promise<LogSystem> {
    const { context, system } = this.#options;
    if (!this.#checked.has(systemIdentifier)) {
      await checkIdentity(context.repository, { instance: context.instance, systemIdentifier }, { signal });
      await withConnection(context.connection, { signal }, client => readMajorVersion(client, signal));
      this.#checked.add(systemIdentifier);
    }
    return await system({ systemIdentifier, segmentSize: await replication.segmentSize() });
  }

  /** Where to go on: behind what the spool and the archive hold of this history, else where the slot keeps the log from. */
  async #position(
    system: LogSystem,
    server: {
      readonly timeline: number;
      readonly flushLsn: bigint;
      readonly chain: readonly TimelineStart[];
    },
    signal: AbortSignal,
  ): Promise<ResumePosition> {
    const { context, slot, note } = this.#options;
    const { segmentSize, directory, systemIdentifier } = system;
    const { chain } = server;
    const files = directory.list();
    const received = spoolEnds(files).get(server.timeline) ?? null;
    await refuseSetBack(directory.path, { ...server, received });
    const held = await withConnection(context.connection, { signal }, client =>
      ensureSlot(client, slot, signal),
    );
    const known = resumePosition(chain, sureEnds(files), segmentSize);
    if (held.isNew && (known !== null || held.wasLost))
      note('warning', `replication slot '${slot}' was gone, and is made anew`, { topic: 'slot', slot });
    if (this.#behindGap !== null) return this.#behindGap;
    const kept = segmentStart(held.restartLsn ?? server.flushLsn, segmentSize);
    const source = { systemIdentifier, segmentSize, chain };
    // A spool that is gone may have held what is neither archived nor kept for the slot: the server may have it all the same.
    const from = known?.lsn ?? (await archiveEnd(context, { ...source, before: kept }, signal)) ?? kept;
    // Without the storage it is received once more, and found to be the same when it is archived.
    const archived = await archivedUpTo(context, { ...source, lsn: from }, signal).catch(() => from);
    const limit = segmentStart(server.flushLsn, segmentSize);
    const lsn = archived < limit ? archived : from > limit ? from : limit;
    return { timeline: timelineAt(chain, lsn, segmentSize), lsn };
  }

  async #receive(
    replication: ReplicationConnection,
    target: { readonly system: LogSystem; readonly position: ResumePosition; readonly serverLsn: bigint },
    signal: AbortSignal,
  ): Promise<TimelineEnd> {
    const { system, position, serverLsn } = target;
    const spool = await this.#spoolOf(system);
    await spool.begin(position.timeline, position.lsn);
    const { slot, onLog, synchronous } = this.#options;
    const { systemIdentifier, segmentSize } = system;
    const place = { systemIdentifier, segmentSize, timeline: position.timeline, serverLsn };
    const stream = startWalStream(replication, {
      ...position,
      slot,
      gatherMs: synchronous ? 0 : GATHER_MS,
      positions: () => {
        const { written, flushed } = spool;
        return { written, flushed, applied: synchronous ? flushed : 0n };
      },
      onData: (lsn, bytes) => {
        spool.write(lsn, bytes);
        onLog?.(place, lsn, bytes);
      },
      // The end of a message: commits do not end before.
      onServerEnd: lsn => {
        this.#onServerEnd(lsn, position);
        spool.flush();
        reports.received();
      },
    });
    const reports = paceReports(() => stream.report(), synchronous ? null : REPORT_AGAIN_MS);
    this.#stream = stream;
    let ticks = 0;
    const timer = setInterval(() => {
      if (ticks % ROOM_EVERY === 0) this.checkRoom();
      ticks += 1;
      this.#tick(stream);
    }, STATUS_EVERY_MS);
    try {
      return await abortable(stream.ended, signal);
    } finally {
      clearInterval(timer);
      reports.stop();
      this.#state = { ...this.#state, state: 'connecting' };
      await spool.settled();
      if (signal.aborted) {
        stream.report();
        await stream.stop();
      }
      this.#stream = null;
    }
  }

  #onServerEnd(lsn: bigint, position: ResumePosition): void {
    if (this.#state.state !== 'streaming') {
      this.#hasStreamed = true;
      this.#behindGap = null;
      const { lsn: from, timeline } = position;
      this.#options.note('info', `streaming from ${formatLsn(from)} on timeline ${timeline}`, {
        topic: 'streaming',
        timeline,
        from: formatLsn(from),
      });
    }
    this.#state = { ...this.#state, state: 'streaming', problem: null, serverLsn: lsn };
  }

  async #spoolOf(system: LogSystem): Promise<WalSpool> {
    if (system.spool !== null) return system.spool;
    const { note } = this.#options;
    const spool = new WalSpool({
      directory: system.directory,
      segmentSize: system.segmentSize,
      onFlushed: this.#options.synchronous ? () => this.#stream?.report() : null,
      onReceived: () => this.checkRoom(),
      onSegment: () => system.archiver.wake(),
      onDivergence: (lsn, aside) =>
        note(
          'warning',
          `the spool held other bytes than the server has at ${formatLsn(lsn)}: kept as '${aside}'`,
          { topic: 'spool', lsn: formatLsn(lsn) },
        ),
      onFailure: error => {
        // What was written and not flushed may be lost though the kernel still shows it: it is received once more.
        for (const file of system.directory.list())
          if (file.state === 'partial') system.directory.putAside(file.file);
        system.spool = null;
        this.#session?.abort(error);
        void spool.close();
      },
    });
    system.spool = spool;
    return spool;
  }

  #tick(stream: WalStream): void {
    if (this.#options.synchronous) stream.ping();
    else stream.report();
    if (stream.silentMs() > SILENCE_MS) {
      this.#session?.abort(
        new AppError('DATABASE_UNREACHABLE', `the server has been silent for ${SILENCE_MS / 1000} seconds`),
      );
    } else if (stream.silentMs() > SILENCE_MS / 2) stream.ping();
  }

  /** The server no longer has what comes next: says so, remembers it, and finds out where its log begins. */
  async #passGap(
    system: LogSystem,
    server: { readonly timeline: number; readonly flushLsn: bigint; readonly position: ResumePosition },
    signal: AbortSignal,
  ): Promise<void> {
    const { context, slot, paths, note } = this.#options;
    const { segmentSize, systemIdentifier } = system;
    const { position, timeline, flushLsn } = server;
    const to = await withConnection(context.connection, { signal }, async client => {
      const held = await ensureSlot(client, slot, signal);
      const at = { timeline, lsn: position.lsn, flushLsn };
      const found = await firstAvailable(client, at, { segmentSize, signal });
      return found ?? segmentStart(held.restartLsn ?? flushLsn, segmentSize);
    });
    if (to <= position.lsn) return;
    const received = spoolEnds(system.directory.list()).get(position.timeline) ?? position.lsn;
    const gap = await recordGap(paths.gaps, { systemIdentifier, ...position, received, to }, segmentSize);
    if (gap !== null) note('error', describeGap(gap), { topic: 'gap', ...gap });
    this.#behindGap = { timeline, lsn: to };
  }

  /** A segment that is not full takes room until it is: there must be some for another one beside it. */
  #limitOf({ segmentSize }: LogSystem): number {
    return Math.max(this.#options.spoolLimitBytes, 2 * segmentSize);
  }

  async #waitForRoom(signal: AbortSignal): Promise<void> {
    const { system } = this.#state;
    if (system === null) return;
    const limitBytes = this.#limitOf(system);
    const limit = formatBytes(limitBytes);
    const problem = `the spool is full: ${limit} are not archived yet (${system.archiver.state.problem ?? 'archiving is slower than the server'})`;
    this.#state = { ...this.#state, state: 'spool full', problem };
    this.#options.note(
      'error',
      `${problem}; nothing is dropped, and the server keeps what comes until there is room`,
      {
        topic: 'spool full',
        limitBytes,
      },
    );
    const enough = limitBytes * (1 - ROOM);
    while (!signal.aborted && system.directory.unarchivedBytes() > enough)
      await sleep(250, undefined, { signal }).catch(() => undefined);
    this.#state = { ...this.#state, state: 'connecting' };
  }

  #throwIfFatal(error: unknown): void {
    if (this.#hasStreamed || !(error instanceof AppError) || !fatalAtStart.includes(error.code)) return;
    if (error.code === 'LOCKED' && performance.now() - this.#startedMs < SLOT_PATIENCE_MS) return;
    throw error;
  }

  /** Once for each trouble, not for each attempt. */
  #tell(error: unknown): void {
    const problem = messageOf(error);
    if (problem === this.#state.problem) return;
    this.#state = { ...this.#state, state: 'connecting', problem };
    const hint = error instanceof AppError ? error.hint : undefined;
    this.#options.note('warning', `${problem}; trying again`, {
      topic: 'not streaming',
      ...(error instanceof AppError ? { code: error.code } : {}),
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** The server's history, archived on the way: without it nothing of a timeline can be found. */
async function readChain(
  replication: ReplicationConnection,
  system: LogSystem,
  timeline: number,
): Promise<readonly TimelineStart[]> {
  if (timeline === 1) return [{ timeline, begin: 0n }];
  const { content } = await replication.timelineHistory(timeline);
  system.archiver.history(historyName(timeline), content);
  return parseHistory(content, timeline);
}
