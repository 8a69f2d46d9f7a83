import { AppError } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import { classifyLogFileName, nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import { encodeSummary, StoredSummary } from '../../engines/postgres/segment-summary-stored.ts';
import { type SummaryOptions, summarizeSegment } from '../../engines/postgres/summarize-segment.ts';
import { deleteLogSummary, getLogSummary, putLogSummary } from '../../repository/log-summary.ts';
import type { Repository } from '../../repository/repository.ts';
import type { LogView } from './log-view.ts';
import { MAX_STORED_SUMMARY_BYTES } from './store-segment.ts';

/** Small objects, one for each segment: so many are fetched ahead, as a storage may be far away. */
const FETCHED_AHEAD = 8;

export interface SummariesQuestion {
  readonly repository: Repository;
  readonly view: LogView;
  /** Records that start in it. */
  readonly from: bigint;
  readonly to: bigint;
  /** The segment to begin with, where those before it were read for the same range; left out: that of `from`. */
  readonly startAt?: bigint | undefined;
  /** As in {@link SummaryOptions}: where it lies in a segment, that one is read anew. */
  readonly target?: bigint | null;
  /** True: every transaction is listed, none only counted; where a stored summary does not, the log is read. */
  readonly detail?: boolean;
  /** Segments that are read instead of those of the view, or behind them, in ascending order. */
  readonly extra?: AsyncIterable<LogPiece> | undefined;
  readonly signal: AbortSignal;
}

export interface LogPiece {
  readonly lsn: bigint;
  readonly bytes: Uint8Array;
}

/**
 * The summaries of the segments of a range, in order, each verified. The last one may be that of the segment behind the
 * range, where a record that starts in the range goes on there.
 */
export async function* summariesOf(
  question: SummariesQuestion,
): AsyncGenerator<StoredSummary, void, undefined> {
  const { view, signal } = question;
  const stored = new StoredAhead(question);
  const extra = question.extra?.[Symbol.asyncIterator]();
  const first = segmentStart(question.startAt ?? question.from, view.segmentSize);
  try {
    let piece = await nextPiece(extra, first);
    let isCut = false;
    for (let at = first; ; at = nextSegment(at, view.segmentSize)) {
      signal.throwIfAborted();
      const live = piece?.lsn === at ? piece : null;
      // Behind the range there is only the rest of a record, if that is there at all.
      if (at >= question.to && !(isCut && (live !== null || view.nameAt(at) !== null))) return;
      let summary = live === null ? await stored.take(at) : null;
      summary ??= await readSegment(question, at, live);
      yield summary;
      if (summary.ended !== 'segment end') return;
      isCut = summary.tail !== null || (isCut && summary.head !== null && summary.head.missingBehind > 0);
      if (live !== null) piece = await nextPiece(extra, nextSegment(at, view.segmentSize));
    }
  } finally {
    await extra?.return?.();
  }
}

async function nextPiece(extra: AsyncIterator<LogPiece> | undefined, from: bigint): Promise<LogPiece | null> {
  for (;;) {
    const next = await extra?.next();
    if (next === undefined || next.done === true) return null;
    if (next.value.lsn >= from) return next.value;
  }
}

/** The summary of one segment of a question with every transaction in it. */
export function summaryInDetail(question: SummariesQuestion, at: bigint): Promise<StoredSummary> {
  return readSegment({ ...question, detail: true }, at, null);
}

/** Reads a segment, and stores its summary where it can serve others. */
async function readSegment(
  question: SummariesQuestion,
  at: bigint,
  live: LogPiece | null,
): Promise<StoredSummary> {
  const { repository, view, signal, from, to, target } = question;
  const bytes = live?.bytes ?? (await view.read(at));
  const isWhole = isWholeSummary(question, at);
  const options: SummaryOptions = {
    lsn: at,
    segmentSize: view.segmentSize,
    systemIdentifier: view.owner.systemIdentifier,
    ...(isWhole ? {} : { range: { from, to } }),
    ...(question.detail === true ? { fold: null } : {}),
    ...(isWhole || target === undefined ? {} : { target }),
  };
  const bytesOfSummary = encodeSummary(summarizeSegment(bytes, options));
  if (live === null) releaseMemory(bytes);
  const name = view.nameAt(at);
  const isStored =
    isWhole &&
    live === null &&
    question.detail !== true &&
    name !== null &&
    classifyLogFileName(name, view.segmentSize)?.kind === 'segment' &&
    bytesOfSummary.length <= MAX_STORED_SUMMARY_BYTES;
  if (isStored) {
    // A cache that cannot be written, on a storage that is full or read-only, is no reason to fail.
    await putLogSummary(repository, { ...view.owner, name, bytes: bytesOfSummary }, { signal }).catch(
      () => undefined,
    );
    signal.throwIfAborted();
  }
  return new StoredSummary(bytesOfSummary);
}

/** Whether a segment's summary is the same for this question as for any other. */
function isWholeSummary(question: SummariesQuestion, at: bigint): boolean {
  const { from, to, target, view } = question;
  const next = nextSegment(at, view.segmentSize);
  const holdsTarget = target !== undefined && target !== null && target > at && target < next;
  return from <= at && next <= to && !holdsTarget;
}

/** Fetches stored summaries ahead of their use. */
class StoredAhead {
  readonly #question: SummariesQuestion;
  readonly #fetching = new Map<bigint, Promise<StoredSummary | null>>();
  #next: bigint;

  constructor(question: SummariesQuestion) {
    this.#question = question;
    this.#next = segmentStart(question.from, question.view.segmentSize);
  }

  /** Null when it is not stored, or cannot be used. */
  async take(at: bigint): Promise<StoredSummary | null> {
    const { view, to } = this.#question;
    if (!isWholeSummary(this.#question, at)) return null;
    for (const lsn of this.#fetching.keys()) if (lsn < at) this.#fetching.delete(lsn);
    if (this.#next < at) this.#next = at;
    while (this.#next < to && this.#fetching.size < FETCHED_AHEAD) {
      const lsn = this.#next;
      this.#next = nextSegment(lsn, view.segmentSize);
      const fetched = isWholeSummary(this.#question, lsn) ? this.#enough(lsn) : Promise.resolve(null);
      // What is fetched and never taken fails for nobody.
      fetched.catch(() => undefined);
      this.#fetching.set(lsn, fetched);
    }
    const summary = await this.#fetching.get(at);
    this.#fetching.delete(at);
    return summary ?? null;
  }

  async #enough(lsn: bigint): Promise<StoredSummary | null> {
    const summary = await storedSummaryAt(this.#question, lsn);
    const isEnough = this.#question.detail !== true || summary?.facts.folded.count === 0;
    return isEnough ? summary : null;
  }
}

/** The verified summary that is stored of the segment at `lsn`, of all of it; null when there is none, or it cannot be used. */
export async function storedSummaryAt(
  from: Pick<SummariesQuestion, 'repository' | 'view' | 'signal'>,
  lsn: bigint,
): Promise<StoredSummary | null> {
  const { repository, view, signal } = from;
  const name = view.nameAt(lsn);
  if (name === null || classifyLogFileName(name, view.segmentSize)?.kind !== 'segment') return null;
  const segment = { ...view.owner, name };
  try {
    const bytes = await getLogSummary(repository, segment, { signal });
    if (bytes === null) return null;
    const summary = new StoredSummary(bytes);
    const isItsOwn =
      summary.lsn === lsn &&
      summary.segmentSize === view.segmentSize &&
      summary.systemIdentifier === view.owner.systemIdentifier;
    return isItsOwn && summary.verified ? summary : null;
  } catch (error) {
    if (!(error instanceof AppError) || !DAMAGE.includes(error.code)) throw error;
    // It is made again from the log; a storage that keeps every object keeps this one too.
    if (error.code === 'CORRUPT')
      await deleteLogSummary(repository, segment, { signal }).catch(() => undefined);
    return null;
  }
}

/** What a stored summary can be without the log being worse for it: damaged, of a newer program, under a lost key. */
const DAMAGE: readonly string[] = ['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'];
