import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { AppError, assert, fileError, systemCode } from '../base/errors.ts';
import { workerUrl } from '../base/worker-url.ts';
import { formatLsn, segmentName, segmentStart } from '../engines/postgres/lsn.ts';
import { ASKED, createFlushMemory, DONE, FILE, type FlushJob, IN_MESSAGE } from './flush-protocol.ts';
import { PARTIAL, type SpoolDirectory } from './spool-directory.ts';

export interface WalSpoolOptions {
  readonly directory: SpoolDirectory;
  readonly segmentSize: number;
  /**
   * All up to here is on the disk. Null where nobody waits for that: then this thread is not woken for it, which takes more of a
   * processor than the flush, and `flushed` says it to whoever asks.
   */
  readonly onFlushed: ((lsn: bigint) => void) | null;
  /** A segment was received to its end, and is not on the disk yet. */
  readonly onReceived: () => void;
  /** A segment is complete and on the disk, under its name. */
  readonly onSegment: (segment: string) => void;
  /** The spool held other bytes than the server sends now; they were put aside. */
  readonly onDivergence: (lsn: bigint, aside: string) => void;
  /** A flush failed: nothing more is acknowledged, and the spool must be opened anew. */
  readonly onFailure: (error: AppError) => void;
}

interface OpenFile {
  readonly fd: number;
  readonly segment: string;
  readonly start: bigint;
  /** Bytes that were there when it was opened: what comes is compared with them. */
  readonly knownBytes: number;
}

/** A flush that the thread was asked for. */
interface Flush {
  /** What of which timeline is on the disk when it is done. */
  readonly upTo: bigint;
  readonly timeline: number;
  /** Segments that have their names then. */
  readonly segments: readonly string[];
  /** How many were done when it was asked for. */
  readonly doneBefore: number;
  readonly startedMs: number;
  isAwaited: boolean;
}

/**
 * Writes the received log into the spool, in order, and flushes it: one flush under way at any time, and everything that
 * came meanwhile goes with the next one. Its own thread flushes; what is written is in the kernel at once, so a killed
 * agent loses nothing.
 */
export class WalSpool {
  readonly #options: WalSpoolOptions;
  readonly #flusher: Worker;
  readonly #memory = createFlushMemory();
  #timeline = 0;
  #written = 0n;
  #flushed = 0n;
  #file: OpenFile | null = null;
  #full: { fd: number; path: string; name: string; segment: string }[] = [];
  #directoryChanged = false;
  /** Until its end was seen. */
  #underway: Flush | null = null;
  #failed = false;
  #oldestUnflushedMs: number | null = null;
  readonly #retired: number[] = [];
  /** For the end of the flush that is under way. */
  readonly #waiting: (() => void)[] = [];

  constructor(options: WalSpoolOptions) {
    this.#options = options;
    // The files it closes were opened by this thread.
    this.#flusher = new Worker(workerUrl('flush-worker', import.meta.url), {
      trackUnmanagedFds: false,
      workerData: this.#memory,
    });
    // A flush that failed, which is never answered.
    this.#flusher.on('error', error => this.#fail(fileError('flush', options.directory.path, error)));
  }

  get timeline(): number {
    return this.#timeline;
  }

  /** The end of what was received. */
  get written(): bigint {
    return this.#written;
  }

  /** The end of what is on the disk. */
  get flushed(): bigint {
    const flush = this.#underway;
    return flush !== null && this.#isDone(flush) ? this.#flushedWith(flush) : this.#flushed;
  }

  /** The segment that is being received. */
  get segment(): string | null {
    return this.#file?.segment ?? null;
  }

  /** How long the oldest byte that is not on the disk has been waiting. */
  unflushedMs(): number {
    if (this.#oldestUnflushedMs === null || this.flushed === this.#written) return 0;
    return performance.now() - this.#oldestUnflushedMs;
  }

  /** Goes on at the start of a segment. What the spool holds of it already is not written again, but compared. */
  async begin(timeline: number, lsn: bigint): Promise<void> {
    assert(lsn === segmentStart(lsn, this.#options.segmentSize), 'the spool begins with whole segments');
    await this.settled();
    this.#leaveFile();
    this.#timeline = timeline;
    this.#written = lsn;
    this.#flushed = lsn;
    this.#oldestUnflushedMs = null;
  }

  /** @throws DISK_FULL, FILE_FAILED: what was not written comes again with the next connection */
  write(lsn: bigint, bytes: Uint8Array): void {
    if (lsn !== this.#written)
      assert(false, `the spool is at ${formatLsn(this.#written)}, not ${formatLsn(lsn)}`);
    this.#oldestUnflushedMs ??= performance.now();
    for (let at = 0; at < bytes.length; ) {
      const file = this.#openFile();
      const offset = Number(this.#written - file.start);
      const piece = bytes.subarray(at, at + this.#options.segmentSize - offset);
      this.#put(file, offset, piece);
      at += piece.length;
      this.#written += BigInt(piece.length);
      if (offset + piece.length === this.#options.segmentSize) this.#complete(file);
    }
  }

  /** Begins to flush what was written; while a flush is under way, the next one begins at its end. */
  flush(): void {
    this.#seeDone();
    if (this.#failed) return;
    if (this.#underway !== null) this.#wakeAtItsEnd(this.#underway);
    else if (this.#written !== this.#flushed || this.#full.length > 0) this.#startFlush();
  }

  /** Resolves when everything written is on the disk, or the spool failed. */
  async settled(): Promise<void> {
    for (;;) {
      this.flush();
      if (this.#failed || this.#underway === null) return;
      this.#wakeAtItsEnd(this.#underway);
      await new Promise<void>(resolve => this.#waiting.push(resolve));
    }
  }

  async close(): Promise<void> {
    await this.settled();
    this.#leaveFile();
    await this.#flusher.terminate();
  }

  #openFile(): OpenFile {
    if (this.#file !== null) return this.#file;
    const { directory, segmentSize } = this.#options;
    const start = segmentStart(this.#written, segmentSize);
    const segment = segmentName(this.#timeline, start, segmentSize);
    const path = join(directory.path, `${segment}${PARTIAL}`);
    try {
      // 'a' creates and keeps, but always writes at the end; so: open what is there, else make it.
      const known = tryOpen(path);
      const fd = known ?? openSync(path, 'wx+', 0o600);
      this.#directoryChanged ||= known === null;
      this.#file = { fd, segment, start, knownBytes: known === null ? 0 : fstatSync(fd).size };
      return this.#file;
    } catch (error) {
      throw fileError('write', path, error);
    }
  }

  #put(file: OpenFile, offset: number, bytes: Uint8Array): void {
    try {
      const same = Math.max(0, Math.min(bytes.length, file.knownBytes - offset));
      if (same > 0 && !holds(file.fd, offset, bytes.subarray(0, same))) {
        const { fd } = this.#replace(file, offset);
        writeFully(fd, offset, bytes);
        return;
      }
      writeFully(file.fd, offset + same, bytes.subarray(same));
    } catch (error) {
      if (error instanceof AppError) throw error;
      const path = join(this.#options.directory.path, `${file.segment}${PARTIAL}`);
      throw fileError('write', path, error);
    }
  }

  /** Puts a file aside that differs from what the server sends, and goes on in a new one with what was equal. */
  #replace(file: OpenFile, offset: number): OpenFile {
    const { directory, onDivergence } = this.#options;
    const equal = new Uint8Array(offset);
    readSync(file.fd, equal, 0, offset, 0);
    this.#close(file.fd);
    this.#file = null;
    const aside = directory.putAside(`${file.segment}${PARTIAL}`);
    const fresh = this.#openFile();
    writeFully(fresh.fd, 0, equal);
    onDivergence(file.start + BigInt(offset), aside);
    return fresh;
  }

  #complete(file: OpenFile): void {
    const { path } = this.#options.directory;
    const name = join(path, file.segment);
    this.#full.push({ fd: file.fd, path: `${name}${PARTIAL}`, name, segment: file.segment });
    this.#directoryChanged = true;
    this.#file = null;
    this.#options.onReceived();
  }

  /** Lets go of a file that is not full; it stays in the spool as it is. */
  #leaveFile(): void {
    if (this.#file !== null) this.#close(this.#file.fd);
    this.#file = null;
  }

  /** A flush that is under way has the file still in use. */
  #close(fd: number): void {
    if (this.#underway !== null) this.#retired.push(fd);
    else closeSync(fd);
  }

  #startFlush(): void {
    const full = this.#full;
    const fd = this.#file?.fd ?? null;
    const directory = this.#directoryChanged ? this.#options.directory.path : null;
    const flush: Flush = {
      upTo: this.#written,
      timeline: this.#timeline,
      segments: full.map(({ segment }) => segment),
      doneBefore: Atomics.load(this.#memory, DONE),
      startedMs: performance.now(),
      isAwaited: false,
    };
    this.#full = [];
    this.#directoryChanged = false;
    this.#underway = flush;
    const isOneFile = fd !== null && full.length === 0 && directory === null;
    if (!isOneFile) {
      const files = full.map(({ fd: file, path, name }) => ({ fd: file, path, name }));
      this.#flusher.postMessage({ full: files, fd, directory } satisfies FlushJob);
    }
    Atomics.store(this.#memory, FILE, isOneFile ? fd : IN_MESSAGE);
    Atomics.add(this.#memory, ASKED, 1);
    Atomics.notify(this.#memory, ASKED);
    if (this.#options.onFlushed !== null || full.length > 0) this.#wakeAtItsEnd(flush);
  }

  #isDone({ doneBefore }: Flush): boolean {
    return Atomics.load(this.#memory, DONE) !== doneBefore;
  }

  /** The end of what is on the disk with it. The spool may have begun anew on another timeline meanwhile. */
  #flushedWith({ timeline, upTo }: Flush): bigint {
    return timeline === this.#timeline && upTo > this.#flushed ? upTo : this.#flushed;
  }

  /** Has its end seen at once, and the next flush begun; never, when it fails. */
  #wakeAtItsEnd(flush: Flush): void {
    if (flush.isAwaited) return;
    flush.isAwaited = true;
    const end = Atomics.waitAsync(this.#memory, DONE, flush.doneBefore).value;
    void Promise.resolve(end).then(() => this.flush());
  }

  #seeDone(): void {
    const flush = this.#underway;
    if (flush === null || !this.#isDone(flush)) return;
    this.#underway = null;
    for (const retired of this.#retired.splice(0)) closeSync(retired);
    this.#flushed = this.#flushedWith(flush);
    this.#oldestUnflushedMs = this.#written > this.#flushed ? flush.startedMs : null;
    for (const segment of flush.segments) this.#options.onSegment(segment);
    this.#options.onFlushed?.(this.#flushed);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #fail(error: AppError): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#underway = null;
    for (const retired of this.#retired.splice(0)) closeSync(retired);
    for (const wake of this.#waiting.splice(0)) wake();
    this.#options.onFailure(error);
  }
}

function tryOpen(path: string): number | null {
  try {
    return openSync(path, 'r+');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function holds(fd: number, offset: number, bytes: Uint8Array): boolean {
  const found = new Uint8Array(bytes.length);
  const read = readSync(fd, found, 0, found.length, offset);
  return read === bytes.length && Buffer.compare(found, bytes) === 0;
}

function writeFully(fd: number, offset: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
