import { existsSync } from 'node:fs';
import { link, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import type { OnEvent } from '../../base/events.ts';
import { GIB, MIB } from '../../base/sizes.ts';
import { Wakes } from '../../base/wakes.ts';
import { workerUrl } from '../../base/worker-url.ts';
import type { WalThinner } from '../../engines/postgres/wal-thinner.ts';
import type { LogOwner } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import { LOG_FED } from '../recovery-time/watch-recovery.ts';
import { startWorkerPool } from '../worker-pool.ts';
import type { FedFile, FeedTask, LogFeederWorkerStart } from './log-feeder-protocol.ts';
import { makeDirectory, type Owner } from './new-files.ts';
import { ThinQueue } from './thin-queue.ts';

/** A file of the log that a recovery needs. */
export interface LogFileToFeed {
  /** Its name in the archive; may end in `.partial`. */
  readonly name: string;
  /** The name the server looks for. */
  readonly as: string;
  /** A usual segment's 16 MiB unless given. */
  readonly sizeBytes?: number;
  /** A whole file of these bytes on the same file system: it is linked instead of fetched, and left where it is. */
  readonly path?: string;
}

/** What was fed so far, for reports and for the measured speed of this machine. */
export interface FeedFacts {
  readonly files: number;
  readonly bytes: number;
  /** Of all threads together, without their waiting for the storage. */
  readonly workMs: number;
  /** How long all threads together waited for the storage. */
  readonly waitedMs: number;
}

/**
 * Puts the log into `pg_wal` while a server replays it: threads fetch, open and unpack some segments ahead of it. What it
 * has replayed the server removes by itself.
 */
export interface LogFeeder extends AsyncDisposable {
  /** Resolves when the server may start: history files and the first segments are there. Rejects as `allFed` does. */
  readonly firstFed: Promise<void>;
  /**
   * Resolves when all files are there; rejects with what went wrong, of the storage, of an object or of the disk. Another one
   * after {@link again}.
   */
  readonly allFed: Promise<void>;
  /** Where the running server is, so that the next files may come; null: it does not say. */
  replaying(segment: string | null): void;
  /** Whether a file was written over: a server that is there needs it again, and will wait for ever. */
  lacks(segment: string): boolean;
  /**
   * For a server that begins at that segment again: what of it and all behind it was written over, or thinned, comes once more, no further
   * ahead of it than ever. From then on nothing is written over. @returns whether anything was, once the first of it is there
   */
  again(segment: string): Promise<boolean>;
  facts(): FeedFacts;
}

export interface FeedSource {
  readonly repository: Repository;
  readonly location: StorageLocation;
}

export interface FeedRequest {
  /** In the order the server needs them. */
  readonly files: readonly LogFileToFeed[];
  readonly log: LogOwner;
  /** The `pg_wal` to fill. Nothing of these names may be in it. */
  readonly directory: string;
  readonly owner: Owner;
  readonly workers: number;
  /**
   * Once the server is behind the segment of that name, files that it has replayed are written over with those that follow: that
   * takes far less memory, and hardly anything of them is written to disk. It must be no earlier than the segment of the
   * checkpoint that the recovery begins with: the server reads that first, and only then what lies in front of it. Whoever
   * starts the server again calls {@link LogFeeder.again} first. Null: the server removes what it has replayed.
   */
  readonly reuseBehind: string | null;
  /** Changes the segments in front of the one of that name, in their order, before the server may see them. */
  readonly thin?: { readonly thinner: WalThinner; readonly before: string } | null;
  /** Told in the end how the storage did. */
  readonly onEvent?: OnEvent;
}

/**
 * Most of a second of a fast replay; more when the storage does not keep up, up to three. Log that lies far ahead takes memory
 * from everything else, and where that is new to the machine, as a virtual one's can be, writing it costs a multiple (measured
 * once: 2 ms for each MiB instead of 0.2).
 */
const BYTES_AHEAD = 256 * MIB;
const MOST_BYTES_AHEAD = GIB;
const SEGMENT_BYTES = 16 * MIB;
/** Enough to begin with; those behind come faster than they are replayed. */
const FILES_FIRST = 4;
/** Where the system does not show what the server replays, the files go in all the same. */
const SILENCE_MS = 10_000;
const ASIDE = 'aishell-feed';
const LOOK_MS = 20;
/** Of a segment's name; the rest is its position. */
const TIMELINE_DIGITS = 8;
/**
 * So much behind the file that is replayed is left alone: the server reads the last record before its target once more, wherever
 * that begins, and what is known of its position is a moment old.
 */
const FILES_KEPT = 8;
const BYTES_KEPT = 128 * MIB;

/** Room for what lies ahead of the server, and for what it has replayed and still keeps, up to the checkpoint before. */
const ROOM_BYTES = 4 * GIB;

/** How much disk a log of this length needs while it is replayed. */
export function roomForLog(logBytes: number): number {
  return Math.min(logBytes, ROOM_BYTES);
}

/** Begins to feed at once. Dispose of it when the recovery has ended, however it did. */
export function startLogFeeder(source: FeedSource, request: FeedRequest, signal: AbortSignal): LogFeeder {
  const stop = new AbortController();
  const feeding = new Feeding(request);
  const until = AbortSignal.any([signal, stop.signal]);
  feeding.start(source, until);
  const firstFed = Promise.race([feeding.firstFed, feeding.allFed]);
  // Looked at by whoever waits for it; a failure before that must not count as unhandled.
  firstFed.catch(() => undefined);
  return {
    firstFed,
    get allFed() {
      return feeding.allFed;
    },
    replaying: segment => feeding.replaying(segment),
    lacks: segment => feeding.lacks(segment),
    again: segment => feeding.again(segment, source, until),
    facts: () => feeding.facts,
    [Symbol.asyncDispose]: async () => {
      stop.abort(new AppError('CANCELLED', 'the recovery has ended'));
      await feeding.ended();
      request.onEvent?.({ type: 'facts', topic: LOG_FED, facts: { ...feeding.facts } });
    },
  };
}

/** The state of one feeder. */
class Feeding {
  readonly firstFed: Promise<void>;
  facts: FeedFacts = { files: 0, bytes: 0, workMs: 0, waitedMs: 0 };
  readonly #request: FeedRequest;
  readonly #files: readonly LogFileToFeed[];
  /** By position alone: a server that waits for a segment shows the name it has on the oldest timeline that may have it. */
  readonly #places: ReadonlyMap<string, number>;
  readonly #fed = new Set<number>();
  readonly #tellFirst: () => void;
  readonly #lastOfFirst: number;
  readonly #mostAhead: number;
  #filesAhead: number;
  #replayed = 0;
  readonly #filesKept: number;
  /** From this place on what the server says of its position is where its replay is. */
  #reuseFrom: number;
  #known = 0;
  #oldest = 0;
  /** Files that were, or are about to be, written over with others. */
  readonly #reused = new Set<number>();
  /** Those that are being fed into the place of another. */
  readonly #reusing = new Set<number>();
  allFed: Promise<void> = Promise.resolve();
  readonly #runs: Promise<void>[] = [];
  #failure: unknown = null;
  readonly #thinning: ThinQueue | null;
  #silentSince: number | null = null;
  readonly #wakes = new Wakes();

  constructor(request: FeedRequest) {
    this.#request = request;
    // The server reads the history of its timeline before anything else.
    const segments = request.files.filter(file => !isHistory(file));
    this.#files = [...request.files.filter(isHistory), ...segments];
    this.#places = new Map(this.#files.map((file, index) => [positionOf(file.as), index]));
    this.#lastOfFirst = Math.min(this.#files.length, request.files.filter(isHistory).length + FILES_FIRST);
    const { reuseBehind } = request;
    this.#reuseFrom = reuseBehind === null ? Number.POSITIVE_INFINITY : this.#placeOf(reuseBehind) + 1;
    const largest = Math.max(1, ...segments.map(file => file.sizeBytes ?? SEGMENT_BYTES));
    this.#filesAhead = this.#lastOfFirst + Math.ceil(BYTES_AHEAD / largest);
    this.#filesKept = Math.max(FILES_KEPT, Math.ceil(BYTES_KEPT / largest));
    this.#mostAhead = this.#lastOfFirst + Math.ceil(MOST_BYTES_AHEAD / largest);
    const { thin } = request;
    this.#thinning = thin
      ? new ThinQueue({
          thinner: thin.thinner,
          ...{ first: request.files.filter(isHistory).length, end: this.#placeOf(thin.before) },
          ...{ segmentBytes: largest, workers: request.workers, owner: request.owner },
          onWritten: fed => this.#count(fed),
        })
      : null;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.firstFed = promise;
    this.#tellFirst = resolve;
  }

  replaying(segment: string | null): void {
    const place = segment === null ? undefined : this.#places.get(positionOf(segment));
    if (place === undefined) this.#silentSince ??= performance.now();
    const isSilent = this.#silentSince !== null && performance.now() - this.#silentSince > SILENCE_MS;
    if (place !== undefined) this.#silentSince = null;
    if (place !== undefined && place >= this.#reuseFrom) this.#known = Math.max(this.#known, place);
    // It is about to wait for the storage; where it is the unpacking that does not keep up, more of it ahead is of no use.
    const { waitedMs, workMs } = this.facts;
    if (place !== undefined && place + 2 >= this.#fed.size && waitedMs > workMs)
      this.#filesAhead = Math.min(this.#mostAhead, 2 * this.#filesAhead);
    // Better too many files than a server that waits for the next one, of which nobody knows.
    this.#replayed = Math.max(this.#replayed, isSilent ? Number.POSITIVE_INFINITY : (place ?? 0));
    this.#wakes.wake();
  }

  start(source: FeedSource, signal: AbortSignal): void {
    this.#watch(this.#run(source, signal));
  }

  /** Resolves when nothing is fed any more, however that ended. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#runs);
  }

  /** Makes it part of what {@link allFed} waits for. */
  #watch(run: Promise<void>): void {
    this.#runs.push(run);
    this.allFed = Promise.all([this.allFed, run]).then(() => undefined);
    // Looked at by whoever waits for it; a failure before that must not count as unhandled.
    this.allFed.catch((error: unknown) => {
      this.#failure = error;
    });
  }

  async #run(source: FeedSource, signal: AbortSignal): Promise<void> {
    if (this.#files.length === 0) return;
    await this.#withPool({ ...source, aside: ASIDE }, signal, async (feed, until) => {
      for (const [index, file] of this.#files.entries()) {
        await this.#untilNear(index, until);
        if (file.path !== undefined && (await isLinked(file.path, this.#targetOf(index))))
          this.#count({ index, bytes: 0, workMs: 0, waitedMs: 0 });
        else await feed(index, this.#takeOldest(index));
      }
    });
  }

  lacks(segment: string): boolean {
    const place = this.#places.get(positionOf(segment));
    return place !== undefined && this.#reused.has(place);
  }

  async again(segment: string, source: FeedSource, signal: AbortSignal): Promise<boolean> {
    this.#reuseFrom = Number.POSITIVE_INFINITY;
    this.#known = 0;
    await this.#until(() => this.#reusing.size === 0, signal);
    const first = this.#placeOf(segment);
    // What was thinned comes as it is: which pages are settled from there on, nobody knows any more.
    const thinned = (this.#thinning?.stop() ?? []).filter(index => index >= first);
    for (const index of thinned) await rm(this.#targetOf(index), { force: true });
    const reused = [...this.#reused].filter(index => index >= first);
    const missing = [...new Set([...reused, ...thinned])].sort((a, b) => a - b);
    this.#reused.clear();
    if (missing.length === 0) return false;
    this.#replayed = first;
    // The other one may still be at work.
    const feeding = this.#withPool({ ...source, aside: `${ASIDE}-again` }, signal, async (feed, until) => {
      for (const index of missing) {
        await this.#untilNear(index, until);
        await feed(index, null);
      }
    });
    this.#watch(feeding);
    const begin = missing.slice(0, FILES_FIRST).map(index => this.#targetOf(index));
    await this.#until(() => begin.every(path => existsSync(path)), signal);
    return true;
  }

  async #until(isReady: () => boolean, signal: AbortSignal): Promise<void> {
    while (!isReady()) {
      if (this.#failure !== null) throw this.#failure;
      await delay(LOOK_MS, signal);
    }
  }

  /** The place of a segment, on whatever timeline; behind all of them where it is none of these files. */
  #placeOf(segment: string): number {
    const position = positionOf(segment);
    const place = this.#files.findIndex(({ as }) => positionOf(as) >= position);
    return place < 0 ? this.#files.length : place;
  }

  async #withPool(
    from: FeedSource & { readonly aside: string },
    signal: AbortSignal,
    work: (feed: (index: number, reuse: string | null) => Promise<void>, until: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { directory, owner, log, workers } = this.#request;
    const aside = join(directory, from.aside);
    await rm(aside, { recursive: true, force: true });
    makeDirectory(aside, { owner, mode: 0o700 });
    const failed = new AbortController();
    const pool = startWorkerPool<LogFeederWorkerStart, FeedTask, FedFile>({
      url: workerUrl('log-feeder-worker', import.meta.url),
      count: Math.min(workers, this.#files.length),
      start: { location: from.location, keys: from.repository.keyring.toWorker(), log, owner },
      onMessage: fed => {
        if (!this.#thinning?.arrived(fed)) this.#count(fed);
        return 'batch-done';
      },
      // The server may be waiting for the very file that failed, and this for the server.
      onFailure: error => failed.abort(error),
      signal,
    });
    const until = AbortSignal.any([signal, failed.signal]);
    const feed = async (index: number, reuse: string | null): Promise<void> => {
      const { name, as } = this.#files[index]!;
      const place = { aside: join(aside, as), target: this.#targetOf(index), reuse };
      const into = this.#thinning?.takes(index) ? await this.#thinning.expect(index, place, until) : null;
      await pool.submit({ index, name, into, ...place });
    };
    try {
      await work(feed, until);
      await pool.drain();
    } finally {
      await pool.terminate();
      await rm(aside, { recursive: true, force: true });
    }
  }

  /** A file that the server has replayed, for file number `index`; null where there is none. */
  #takeOldest(index: number): string | null {
    while (this.#oldest < this.#known - this.#filesKept) {
      const oldest = this.#oldest;
      this.#oldest += 1;
      const file = this.#files[oldest]!;
      if (file.path !== undefined || isHistory(file)) continue;
      this.#reused.add(oldest);
      this.#reusing.add(index);
      return this.#targetOf(oldest);
    }
    return null;
  }

  #targetOf(index: number): string {
    return join(this.#request.directory, this.#files[index]!.as);
  }

  #count(fed: FedFile): void {
    this.#fed.add(fed.index);
    this.#reusing.delete(fed.index);
    this.facts = {
      files: this.facts.files + 1,
      bytes: this.facts.bytes + fed.bytes,
      workMs: this.facts.workMs + fed.workMs,
      waitedMs: this.facts.waitedMs + fed.waitedMs,
    };
    for (let index = 0; index < this.#lastOfFirst; index += 1) if (!this.#fed.has(index)) return;
    this.#tellFirst();
  }

  /** Waits until the server is near enough to a file for it to come. */
  async #untilNear(index: number, signal: AbortSignal): Promise<void> {
    while (index >= this.#replayed + this.#filesAhead) await this.#wakes.wait(signal);
  }
}

function isHistory({ as }: LogFileToFeed): boolean {
  return as.endsWith('.history');
}

/** What orders segments of all timelines; that of a history comes before all of them. */
function positionOf(name: string): string {
  return name.slice(TIMELINE_DIGITS);
}

/** @returns false where the file lies elsewhere or links are unknown: then it is fetched */
async function isLinked(path: string, target: string): Promise<boolean> {
  try {
    await link(path, target);
    return true;
  } catch (error) {
    if (['EXDEV', 'EPERM', 'ENOENT', 'EMLINK', 'ENOTSUP'].includes(systemCode(error))) return false;
    throw fileError('create', target, error);
  }
}
