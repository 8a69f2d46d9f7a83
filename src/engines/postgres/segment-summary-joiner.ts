import { AppError } from '../../base/errors.ts';
import { recordCrc32c } from './crc32c.ts';
import { readU32, readU64 } from './little-endian.ts';
import { formatLsn, nextSegment, segmentStart } from './lsn.ts';
import type { RecordPart } from './segment-summary.ts';
import { type BuilderOptions, SummaryBuilder } from './segment-summary-builder.ts';
import { isLaterXid, type SummaryContent, type SummaryFacts } from './segment-summary-content.ts';
import type { StoredSummary } from './segment-summary-stored.ts';
import { alignUp, pageHeaderBytes, WAL_PAGE_BYTES } from './wal-pages.ts';
import { RMGR_XLOG, recordAt, type WalRecord } from './wal-record.ts';

const XID_OFFSET = 4;
const CRC_OFFSET = 20;
const XLOG_SWITCH = 0x40;

/**
 * Joins the summaries of successive parts of the log: puts together the records that cross from one to the next, and checks
 * that each links to the one before it, so that nothing is missing in between.
 */
export class SummaryJoiner {
  readonly builder: SummaryBuilder;
  #facts: SummaryFacts | null = null;
  /** Where what was joined so far starts. */
  readonly #origin: bigint;

  constructor(options: BuilderOptions) {
    this.builder = new SummaryBuilder(options);
    this.#origin = options.origin;
  }

  /** Behind the last byte that was joined; null before anything was. */
  get endLsn(): bigint | null {
    return this.#facts === null ? null : this.#origin + BigInt(this.#facts.lengthBytes);
  }

  /** Whether the log goes on behind it, as far as is known. */
  get ended(): SummaryFacts['ended'] {
    return this.#facts?.ended ?? 'segment end';
  }

  /** Of the log that was joined; before any was there is nothing that it matters to. */
  get majorVersion(): SummaryFacts['majorVersion'] {
    return this.#facts?.majorVersion ?? 18;
  }

  content(): SummaryContent {
    if (this.#facts === null) throw new AppError('LOG_NOT_FOUND', 'there is no log to summarise');
    return this.builder.content(this.#facts);
  }

  /**
   * Whether a transaction that is open at this place may be among those that a summary only counts: then it has to be made
   * anew, with all of them. That takes a thousand transactions at once.
   */
  needsDetail(summary: StoredSummary): boolean {
    const { count, behindXid } = summary.facts.folded;
    if (count === 0) return false;
    // That of the record which is cut may not be open yet. @source access/xlogrecord.h, xl_xid
    const tail = this.#facts?.tail;
    const cutXids = tail === null || tail === undefined ? [] : [readU32(tail.bytes, XID_OFFSET)];
    return [...this.builder.open.keys(), ...cutXids].some(xid => isLaterXid(xid, behindXid));
  }

  /**
   * @throws LOG_NOT_FOUND when it does not start where the one before it ends, SYSTEM_MISMATCH when it is of another
   * system, CORRUPT when the records do not link
   */
  add(summary: StoredSummary): void {
    const before = this.#facts;
    if (before === null) {
      this.#facts = summary.facts;
      this.builder.addSummary(summary);
      return;
    }
    this.#assertNeighbour(before, summary);
    const crossing = this.#crossing(before, summary.facts);
    this.#assertLink(before, crossing, summary);
    if (crossing.record !== null) this.builder.addRecord(crossing.record);
    this.builder.addSummary(summary);
    this.#facts = this.#joined(before, crossing, summary.facts);
  }

  #assertNeighbour(before: SummaryFacts, summary: StoredSummary): void {
    const end = this.endLsn!;
    if (before.ended !== 'segment end') throw broken(end, `it ends there (${before.ended})`);
    if (summary.lsn !== end) {
      throw new AppError(
        'LOG_NOT_FOUND',
        `unable to read the log at ${formatLsn(end)}: it goes on at ${formatLsn(summary.lsn)}`,
        { hint: 'A segment between the two is missing.' },
      );
    }
    if (
      summary.systemIdentifier !== before.systemIdentifier ||
      summary.majorVersion !== before.majorVersion
    ) {
      throw new AppError(
        'SYSTEM_MISMATCH',
        `unable to read the log at ${formatLsn(end)}: it goes on with that of another system or version`,
      );
    }
  }

  /** What becomes of a record that crosses from one to the other. */
  #crossing(before: SummaryFacts, after: SummaryFacts): Crossing {
    const { tail } = before;
    const { head } = after;
    const none = { record: null, head: before.head, tail: null };
    if (head === null) return none;
    if (tail === null) {
      if (before.recordCount === 0 && before.head !== null && before.head.missingBehind > 0) {
        // Nothing but the middle of a record so far.
        assertGoesOn(before.head, head, after.lsn);
        return { ...none, head: join(before.head, head) };
      }
      // Its beginning was left out on purpose, or is missing.
      if (before.cutRecordAt >= 0) return none;
      throw broken(after.lsn, 'the page holds the rest of a record that has none');
    }
    assertGoesOn(tail, head, after.lsn);
    const whole = join(tail, head);
    if (whole.missingBehind > 0) return { ...none, tail: whole };
    const at = before.cutRecordAt;
    if (!hasGoodCrc(whole.bytes)) throw broken(this.#origin + BigInt(at), 'the CRC of the record is wrong');
    const endsAt = Number(endOfRecord(whole.bytes, after, head.bytes.length) - this.#origin);
    const { majorVersion } = after;
    return { ...none, record: recordAt(whole.bytes, { origin: this.#origin, at, endsAt, majorVersion }) };
  }

  #assertLink(before: SummaryFacts, { record, tail }: Crossing, after: StoredSummary): void {
    const last = before.lastRecordAt < 0 ? null : this.#origin + BigInt(before.lastRecordAt);
    if (record !== null && last !== null && record.prevLsn !== last)
      throw unlinked(record.lsn, record.prevLsn);
    const { firstRecordLsn } = after;
    if (firstRecordLsn === null || tail !== null) return;
    // The first record that pg_resetwal writes links to none: what was lost before it, nobody knows.
    const previousRecordLsn = after.previousRecordLsn ?? 0n;
    const cut = before.cutRecordAt < 0 ? null : this.#origin + BigInt(before.cutRecordAt);
    // Without a head, a record that was cut is lost in a crash: the next one links to the one before it.
    const expected = after.head !== null && cut !== null ? cut : last;
    if (expected !== null && previousRecordLsn !== expected)
      throw unlinked(firstRecordLsn, previousRecordLsn);
  }

  #joined(before: SummaryFacts, crossing: Crossing, after: SummaryFacts): SummaryFacts {
    const shift = Number(after.lsn - this.#origin);
    const { record } = crossing;
    const isSwitch = record !== null && isSwitchRecord(record);
    const firstAt = record !== null ? record.at : moved(after.firstRecordAt, shift);
    return {
      ...before,
      timeline: after.timeline,
      lengthBytes: Math.max(shift + after.lengthBytes, record === null ? 0 : record.endsAt),
      ended: isSwitch ? 'segment end' : after.ended,
      verified: before.verified && after.verified,
      recordCount: before.recordCount + after.recordCount + (record === null ? 0 : 1),
      firstRecordAt: before.firstRecordAt >= 0 ? before.firstRecordAt : firstAt,
      lastRecordAt:
        after.lastRecordAt >= 0
          ? after.lastRecordAt + shift
          : record !== null
            ? record.at
            : before.lastRecordAt,
      previousRecordLsn:
        before.recordCount > 0 ? before.previousRecordLsn : (record?.prevLsn ?? after.previousRecordLsn),
      cutRecordAt: crossing.tail !== null ? before.cutRecordAt : moved(after.cutRecordAt, shift),
      head: crossing.head,
      tail: crossing.tail ?? after.tail,
    };
  }
}

interface Crossing {
  /** Complete with the second part. */
  readonly record: WalRecord | null;
  /** Of the whole. */
  readonly head: RecordPart | null;
  /** Still not complete. */
  readonly tail: RecordPart | null;
}

/**
 * The rest of a record begun before a segment, or before a part of one from its start; null when there is none in it.
 */
export function readHead(bytes: Uint8Array, lsn: bigint, segmentSize: number): RecordPart | null {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (let at = 0; at + pageHeaderBytes(at, segmentSize) <= bytes.length; at += WAL_PAGE_BYTES) {
    const headerBytes = pageHeaderBytes(at, segmentSize);
    const continues = (bytes[at + 2]! & 1) !== 0 && readU64(bytes, at + 8) === lsn + BigInt(at);
    const remaining = readU32(bytes, at + 16);
    if (!continues) break;
    const room = WAL_PAGE_BYTES - headerBytes;
    const piece = bytes.subarray(at + headerBytes, at + headerBytes + Math.min(remaining, room));
    pieces.push(piece);
    length += piece.length;
    if (remaining <= room) return { bytes: concat(pieces, length), missingBehind: remaining - piece.length };
    // The last page that there is.
    if (at + WAL_PAGE_BYTES >= bytes.length)
      return { bytes: concat(pieces, length), missingBehind: remaining - piece.length };
  }
  return null;
}

/** Where the next record can start behind one whose last `restBytes` lie at the start of `segment`. */
function endOfRecord(
  record: Uint8Array,
  segment: { readonly lsn: bigint; readonly segmentSize: number },
  restBytes: number,
): bigint {
  const { lsn, segmentSize } = segment;
  if (record[17] === RMGR_XLOG && (record[16]! & 0xf0) === XLOG_SWITCH) return nextSegment(lsn, segmentSize);
  let left = restBytes;
  let at = Number(lsn - segmentStart(lsn, segmentSize));
  for (;;) {
    const header = pageHeaderBytes(at, segmentSize);
    if (left <= WAL_PAGE_BYTES - header) {
      return lsn + BigInt(alignUp(at + header + left));
    }
    left -= WAL_PAGE_BYTES - header;
    at += WAL_PAGE_BYTES;
  }
}

function isSwitchRecord(record: WalRecord): boolean {
  return record.rmgr === RMGR_XLOG && (record.info & 0xf0) === XLOG_SWITCH;
}

function hasGoodCrc(record: Uint8Array): boolean {
  return recordCrc32c(record, 0, record.length) === readU32(record, CRC_OFFSET);
}

function join(first: RecordPart, second: RecordPart): RecordPart {
  return {
    bytes: concat([first.bytes, second.bytes], first.bytes.length + second.bytes.length),
    missingBehind: second.missingBehind,
  };
}

function concat(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

function assertGoesOn(first: RecordPart, second: RecordPart, lsn: bigint): void {
  if (first.missingBehind !== second.bytes.length + second.missingBehind)
    throw broken(lsn, 'the page does not hold the rest of the record before it');
}

function moved(at: number, shift: number): number {
  return at < 0 ? -1 : at + shift;
}

function unlinked(lsn: bigint, prev: bigint): AppError {
  return broken(lsn, `the record says that the one before it is at ${formatLsn(prev)}`);
}

function broken(lsn: bigint, why: string): AppError {
  return new AppError('CORRUPT', `unable to read the log at ${formatLsn(lsn)}: ${why}`);
}
