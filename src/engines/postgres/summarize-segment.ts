import { setImmediate } from 'node:timers/promises';
import { AppError } from '../../base/errors.ts';
import { KIB } from '../../base/sizes.ts';
import { readU32 } from './little-endian.ts';
import type { RecordPart, SegmentSummary } from './segment-summary.ts';
import { SummaryBuilder } from './segment-summary-builder.ts';
import { FOLD_RULE, type FoldRule, type SummaryFacts } from './segment-summary-content.ts';
import { encodeContent } from './segment-summary-encoding.ts';
import { readHead, SummaryJoiner } from './segment-summary-joiner.ts';
import { decodeSummary, encodeSummary, StoredSummary } from './segment-summary-stored.ts';
import { createWalReader, type WalReader } from './wal-reader.ts';
import type { WalRecord } from './wal-record.ts';

/** Of a page's flags. @source access/xlog_internal.h, XLP_FIRST_IS_CONTRECORD */
const FIRST_IS_CONTINUATION = 0x01;

export interface SummaryOptions {
  /** Where the bytes start: the start of a segment. */
  readonly lsn: bigint;
  readonly segmentSize: number;
  /** What the segment must be of; left out, it decides. */
  readonly systemIdentifier?: string;
  /** False for bytes that were verified already, or will be by what replays them: about twice as fast. */
  readonly verifyCrc?: boolean;
  /** Only records that start in it; what is outside is still read. */
  readonly range?: { readonly from: bigint; readonly to: bigint };
  /** Which transactions are only counted; null: none is. */
  readonly fold?: FoldRule | null;
  /** That a page is overwritten counts before this position alone; null: nowhere. Left out: everywhere. */
  readonly target?: bigint | null;
}

/**
 * Summarises one segment, or a first part of one, on its own.
 *
 * @throws SYSTEM_MISMATCH ENGINE_VERSION
 * @throws LOG_NOT_FOUND when it holds nothing of a log
 * @throws CORRUPT when a record whose CRC is good is not what its headers promise
 */
export function summarizeSegment(bytes: Uint8Array, options: SummaryOptions): SegmentSummary {
  const { verifyCrc = true } = options;
  try {
    return runToEnd(readSummary(bytes, { ...options, verifyCrc }));
  } catch (error) {
    // Not a record then, but damage: the log ends in front of it.
    if (!verifyCrc && error instanceof AppError && error.code === 'CORRUPT')
      return runToEnd(readSummary(bytes, { ...options, verifyCrc: true }));
    throw error;
  }
}

/** The same, CRCs verified, in small steps between which others get their turn. @throws as {@link summarizeSegment} */
export async function summarizeInSteps(
  bytes: Uint8Array,
  options: Omit<SummaryOptions, 'verifyCrc'>,
): Promise<SegmentSummary> {
  const reading = readSummary(bytes, { ...options, verifyCrc: true });
  for (;;) {
    const step = reading.next();
    if (step.done === true) return step.value;
    await setImmediate();
  }
}

/** A few milliseconds of work. */
const STEP_BYTES = 512 * KIB;

function runToEnd(reading: Generator<void, SegmentSummary, undefined>): SegmentSummary {
  for (;;) {
    const step = reading.next();
    if (step.done === true) return step.value;
  }
}

/** Yields after each step. */
function* readSummary(
  bytes: Uint8Array,
  options: SummaryOptions & { readonly verifyCrc: boolean },
): Generator<void, SegmentSummary, undefined> {
  const { lsn, segmentSize, range, verifyCrc } = options;
  const builder = new SummaryBuilder({
    origin: lsn,
    fold: options.fold === undefined ? FOLD_RULE : options.fold,
    ...(options.target === undefined ? {} : { target: options.target }),
  });
  let previousRecordLsn = 0n;
  let isFirst = true;
  const inRange = (at: bigint): boolean => range === undefined || (at >= range.from && at < range.to);
  const onRecord = (record: WalRecord): void => {
    if (isFirst) {
      previousRecordLsn = record.prevLsn;
      isFirst = false;
    }
    if (range === undefined || inRange(record.lsn)) builder.addRecord(record);
  };
  const reader = createWalReader({
    segmentSize,
    startLsn: lsn,
    onRecord,
    verifyCrc,
    ...(options.systemIdentifier === undefined ? {} : { systemIdentifier: options.systemIdentifier }),
  });
  for (let at = 0; at < bytes.length; at += STEP_BYTES) {
    reader.push(bytes.subarray(at, at + STEP_BYTES));
    yield;
  }
  const cut = reader.end === null ? reader.incompleteRecordLsn : null;
  const head = readHead(bytes, lsn, segmentSize);
  const facts = {
    ...factsOf(reader, bytes, { ...options, head }),
    previousRecordLsn,
    cutRecordAt: cut === null ? -1 : Number(cut - lsn),
    head: range === undefined || range.from <= lsn ? head : null,
    tail: cut !== null && inRange(cut) ? tailOf(reader) : null,
  };
  return decodeSummary(encodeContent(builder.content(facts)));
}

function tailOf(reader: WalReader): RecordPart | null {
  const bytes = reader.incompleteRecord();
  return bytes === null ? null : { bytes, missingBehind: readU32(bytes, 0) - bytes.length };
}

function factsOf(
  reader: WalReader,
  bytes: Uint8Array,
  options: SummaryOptions & { readonly verifyCrc: boolean; readonly head: RecordPart | null },
): Omit<SummaryFacts, 'previousRecordLsn' | 'cutRecordAt' | 'resetAt' | 'folded' | 'head' | 'tail'> {
  const { lsn } = options;
  const { majorVersion, systemIdentifier, timeline } = reader;
  if (majorVersion === null || systemIdentifier === null || timeline === null) {
    throw new AppError('LOG_NOT_FOUND', 'there is no log to summarise: its first page is not written', {
      hint: 'The segment is empty, or one that the server has renamed and not used yet.',
    });
  }
  const atOf = (at: bigint | null): number => (at === null ? -1 : Number(at - lsn));
  // Of a record that goes on in it, all or nothing counts.
  const isHeadLost = options.head === null && (bytes[2]! & FIRST_IS_CONTINUATION) !== 0;
  const end = reader.end === null ? null : (reader.incompleteRecordLsn ?? reader.end.lsn);
  return {
    timeline,
    lsn,
    lengthBytes: end === null ? bytes.length : isHeadLost ? 0 : atOf(end),
    segmentSize: options.segmentSize,
    majorVersion,
    systemIdentifier,
    ended: reader.end?.reason ?? 'segment end',
    verified: options.verifyCrc,
    recordCount: reader.recordCount,
    firstRecordAt: atOf(reader.firstRecordLsn),
    lastRecordAt: atOf(reader.lastRecordLsn),
  };
}

/**
 * The summary of two neighbours' joined log.
 *
 * @throws LOG_NOT_FOUND when the second does not start where the first ends; CORRUPT when their records do not link
 * @throws UNSUPPORTED when so many transactions ran at once that it takes summaries without a `fold`
 */
export function mergeSummaries(
  first: SegmentSummary,
  second: SegmentSummary,
  fold: FoldRule | null = FOLD_RULE,
): SegmentSummary {
  const joiner = new SummaryJoiner({ origin: first.lsn, fold });
  for (const summary of [first, second].map(each => new StoredSummary(encodeSummary(each)))) {
    if (joiner.needsDetail(summary)) {
      throw new AppError(
        'UNSUPPORTED',
        'unable to merge summaries of a log with a thousand transactions at once',
      );
    }
    joiner.add(summary);
  }
  return decodeSummary(encodeContent(joiner.content()));
}
