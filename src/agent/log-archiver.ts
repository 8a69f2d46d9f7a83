import { join } from 'node:path';
import { delay } from '../base/abort.ts';
import { AppError, messageOf } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { formatBytes } from '../base/sizes.ts';
import type { ArchiveThread } from './archive-thread.ts';
import { nextPartStart } from './part-schedule.ts';
import { PARTIAL, type SpoolDirectory, type SpoolFile } from './spool-directory.ts';

export interface LogArchiverOptions {
  readonly directory: SpoolDirectory;
  readonly thread: ArchiveThread;
  /** At the latest so long after it was received a byte is archived, even though its segment is not full. */
  readonly archiveTimeoutMs: number;
  /** How far the pieces of a segment reach that are archived already. */
  readonly knownReach: (segment: string) => Promise<number>;
  /** What is received now; null when nothing was yet. */
  readonly receiving: () => Receiving | null;
  /** Something was archived: the spool has room again. */
  readonly onArchived: () => void;
  readonly note: TellNote;
}

export interface Receiving {
  readonly segment: string;
  /** How many of its bytes are on the disk. */
  readonly bytes: number;
  /** The first segment that may still be flushed and named: files from here on are in the receiver's hands. */
  readonly first: string;
}

export interface ArchiverState {
  /** The last whole segment. */
  readonly lastSegment: string | null;
  readonly lastSegmentAtMs: number | null;
  /** The last piece of the segment that is being received: how far it reaches. */
  readonly part: { readonly segment: string; readonly to: number; readonly atMs: number } | null;
  readonly segments: number;
  readonly parts: number;
  readonly waiting: number;
  /** Why archiving does not go on; null while it does. */
  readonly problem: string | null;
}

interface PartsOf {
  readonly ends: number[];
  /** Since when there have been bytes beyond the last piece. */
  sinceMs: number | null;
}

const RETRY_MS = [500, 1000, 2000, 5000, 10_000, 30_000];
const TICK_MS = 500;
/** The spool is read again after this time though nothing said that something changed in it. */
const LOOK_AGAIN_MS = 5000;

/** Archives what lies in the spool, in the order of the log, for as long as it runs; tries again when the storage fails. */
export class LogArchiver {
  readonly #options: LogArchiverOptions;
  readonly #stop = new AbortController();
  readonly #waiters = new Map<string, PromiseWithResolvers<void>>();
  readonly #parts = new Map<string, PartsOf>();
  readonly #histories: { readonly name: string; readonly content: string }[] = [];
  #finishing = false;
  #isWoken = false;
  /** What was received, and when, as nothing but that was left in the spool; null when there may be more. */
  #settled: { readonly first: string | null; readonly atMs: number } | null = null;
  #state: ArchiverState = {
    lastSegment: null,
    lastSegmentAtMs: null,
    part: null,
    segments: 0,
    parts: 0,
    waiting: 0,
    problem: null,
  };
  #wake: () => void = () => undefined;
  #running: Promise<void> | null = null;
  #failures = 0;

  constructor(options: LogArchiverOptions) {
    this.#options = options;
  }

  get state(): ArchiverState {
    return this.#state;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** There is a new full segment. */
  wake(): void {
    this.#isWoken = true;
    this.#settled = null;
    this.#wake();
  }

  /** Without its history nothing of a timeline can be found: so it comes before everything else. */
  history(name: string, content: string): void {
    this.#histories.push({ name, content });
    this.wake();
  }

  /** Resolves when a segment that is in the spool is archived; at once when it was. */
  async archived(segment: string): Promise<void> {
    const file = this.#options.directory.list().find(each => each.segment === segment);
    if (file === undefined)
      throw new AppError('LOG_NOT_FOUND', `log segment '${segment}' is not in the spool`);
    if (file.state === 'archived') return;
    const waiter = this.#waiters.get(segment) ?? Promise.withResolvers<void>();
    this.#waiters.set(segment, waiter);
    this.wake();
    await waiter.promise;
  }

  /** Archives what is there, the unfinished segment as a piece, as far as that succeeds in time; then it ends. */
  async finish(timeoutMs: number): Promise<void> {
    const enough = setTimeout(() => this.#stop.abort(), timeoutMs);
    this.#finishing = true;
    this.wake();
    await this.#running;
    clearTimeout(enough);
    for (const waiter of this.#waiters.values()) {
      waiter.promise.catch(() => undefined);
      waiter.reject(new AppError('CANCELLED', 'the agent was stopped'));
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const worked = await this.#next();
        this.#recovered();
        if (worked) continue;
        if (this.#finishing) return;
      } catch (error) {
        if (signal.aborted || this.#finishing) return;
        await this.#pause(error);
        continue;
      }
      await this.#sleep(TICK_MS);
    }
  }

  /** Archives the next thing; false when there is none. */
  async #next(): Promise<boolean> {
    const { receiving, thread } = this.#options;
    const [history] = this.#histories;
    if (history !== undefined) {
      await thread.run({ kind: 'history', ...history });
      this.#histories.shift();
      return true;
    }
    const current = receiving();
    const first = current?.first ?? null;
    if (this.#settled?.first !== first || performance.now() - this.#settled.atMs > LOOK_AGAIN_MS) {
      // Before it looks: what comes meanwhile undoes it.
      this.#settled = { first, atMs: performance.now() };
      let isMore = true;
      try {
        isMore = await this.#file(current);
      } finally {
        if (isMore) this.#settled = null;
      }
      if (isMore) return true;
    }
    return current === null ? false : await this.#unfinished(current.segment, current.bytes);
  }

  /** Archives the first file of the spool that waits for it; false when none does. */
  async #file(current: Receiving | null): Promise<boolean> {
    const files = this.#options.directory.list().filter(each => each.state !== 'archived');
    this.#state = { ...this.#state, waiting: files.filter(each => each.state === 'full').length };
    for (const file of files) {
      if (file.state === 'full') return await this.#segment(file);
      if (file.sizeBytes === 0) continue;
      // What an earlier run did not finish is archived as far as it goes, and kept: it will be gone on with. Of what lies
      // behind the receiver, as of a timeline that was left, that is the end.
      if (current === null && (await this.#piece(file.segment, file.sizeBytes))) return true;
      if (current !== null && file.segment < current.first) return await this.#rest(file);
    }
    return false;
  }

  async #segment(file: SpoolFile): Promise<boolean> {
    const { directory, thread, onArchived, note } = this.#options;
    const { segment } = file;
    try {
      await thread.run({ kind: 'segment', path: join(directory.path, file.file), segment });
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'LOG_CONFLICT') throw error;
      const aside = directory.putAside(file.file);
      const message = `${error.message}; what was received is kept as '${join(directory.path, aside)}'`;
      note('error', message, { topic: 'log conflict', segment });
      this.#waiters.get(segment)?.reject(error);
      this.#waiters.delete(segment);
      return true;
    }
    directory.markArchived(file);
    this.#parts.delete(segment);
    this.#state = {
      ...this.#state,
      lastSegment: segment,
      lastSegmentAtMs: Date.now(),
      segments: this.#state.segments + 1,
    };
    this.#waiters.get(segment)?.resolve();
    this.#waiters.delete(segment);
    onArchived();
    return true;
  }

  /** The rest of a segment that will not be received any further, as a last piece. */
  async #rest(file: SpoolFile): Promise<boolean> {
    const { directory, onArchived } = this.#options;
    await this.#piece(file.segment, file.sizeBytes);
    this.#parts.delete(file.segment);
    directory.markArchived(file);
    onArchived();
    return true;
  }

  async #unfinished(segment: string, bytes: number): Promise<boolean> {
    const parts = await this.#partsOf(segment);
    if (bytes <= (parts.ends.at(-1) ?? 0)) {
      parts.sinceMs = null;
      return false;
    }
    parts.sinceMs ??= performance.now();
    const isDue = performance.now() - parts.sinceMs >= this.#options.archiveTimeoutMs - TICK_MS;
    if (!isDue && !this.#finishing) return false;
    return await this.#piece(segment, bytes);
  }

  /** Archives a segment up to `to`; false when that is archived already. */
  async #piece(segment: string, to: number): Promise<boolean> {
    const { directory, thread } = this.#options;
    const parts = await this.#partsOf(segment);
    if (to <= (parts.ends.at(-1) ?? 0)) return false;
    try {
      const path = join(directory.path, `${segment}${PARTIAL}`);
      await thread.run({ kind: 'part', path, segment, from: nextPartStart(parts.ends), to });
    } catch (error) {
      // It became full meanwhile, and goes as a whole.
      if (directory.list().some(each => each.segment === segment && each.state === 'full')) return true;
      throw error;
    }
    parts.ends.push(to);
    parts.sinceMs = null;
    this.#state = {
      ...this.#state,
      part: { segment, to, atMs: Date.now() },
      parts: this.#state.parts + 1,
    };
    return true;
  }

  async #partsOf(segment: string): Promise<PartsOf> {
    const known = this.#parts.get(segment);
    if (known !== undefined) return known;
    const reach = await this.#options.knownReach(segment);
    const parts: PartsOf = { ends: reach > 0 ? [reach] : [], sinceMs: null };
    this.#parts.set(segment, parts);
    return parts;
  }

  async #pause(error: unknown): Promise<void> {
    const { directory, note } = this.#options;
    const message = messageOf(error);
    if (this.#state.problem !== message) {
      const waiting = formatBytes(directory.unarchivedBytes());
      note('warning', `unable to archive for now: ${message}; ${waiting} wait in the spool`, {
        topic: 'archiving fails',
      });
    }
    this.#state = { ...this.#state, problem: message };
    const pauseMs = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]!;
    this.#failures += 1;
    await delay(pauseMs, this.#stop.signal).catch(() => undefined);
  }

  #recovered(): void {
    this.#failures = 0;
    if (this.#state.problem === null) return;
    this.#state = { ...this.#state, problem: null };
    this.#options.note('info', 'archiving goes on', { topic: 'archiving goes on' });
  }

  async #sleep(ms: number): Promise<void> {
    if (this.#isWoken) {
      this.#isWoken = false;
      return;
    }
    const woken = new Promise<void>(resolve => {
      this.#wake = resolve;
    });
    const timer = setTimeout(this.#wake, ms);
    await woken;
    clearTimeout(timer);
  }
}
