import { AppError, assert } from '../../base/errors.ts';
import { ByteReader } from './byte-stream.ts';
import { readU32 } from './little-endian.ts';
import { isSegmentSize } from './lsn.ts';
import type { RecordPart, SecondTotals, SegmentSummary, TransactionSummary } from './segment-summary.ts';
import {
  ENDED,
  type KeptRecord,
  PART_HAS_SUBTRANSACTIONS,
  PART_IS_REMARKABLE,
  type RelationLock,
  type Second,
  SUMMARY_VERSION,
  type SummaryFacts,
} from './segment-summary-content.ts';
import { logEvents, relationRows, storageEvents, transactionSummary } from './segment-summary-lists.ts';
import { OUTCOME_CRASHED, OUTCOME_OPEN, RowCounts, TransactionPart } from './segment-summary-parts.ts';
import type { WalEvent } from './wal-events.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';
import type { StorageEvent } from './wal-storage.ts';
import type { RelationFile } from './wal-transactions.ts';

/** Added to a transaction's outcome. */
const CHANGES_PLACES = 0x80;
const RELATION_BYTES = 3;
const PART_BYTES = 7;
/** Of the columns: xid, rows, offset, flags. */
const ENDED_BYTES = 13;

/** One transaction in the list of those that ended, before it is decoded. */
export interface EndedEntry {
  readonly xid: number;
  readonly rows: number;
  readonly isRemarkable: boolean;
  readonly hasSubtransactions: boolean;
  part(): TransactionPart;
}

/**
 * Reads a summary's bytes; its lists are decoded when they are asked for, and may throw CORRUPT then.
 * @throws CORRUPT, UNSUPPORTED
 */
export function decodeSummary(bytes: Uint8Array): SegmentSummary {
  return new StoredSummary(bytes);
}

/** The bytes of a summary, as {@link decodeSummary} reads them. */
export function encodeSummary(summary: SegmentSummary): Uint8Array {
  assert(summary instanceof StoredSummary, 'a summary of another making cannot be encoded');
  return summary.bytes;
}

/** A summary over its bytes. Relations in parts and rows are numbers of {@link relations}. */
export class StoredSummary implements SegmentSummary {
  readonly bytes: Uint8Array;
  readonly facts: SummaryFacts;
  readonly #sections: readonly Uint8Array[];
  #relations: readonly RelationFile[] | null = null;
  #seconds: readonly SecondTotals[] | null = null;

  /** @throws CORRUPT UNSUPPORTED */
  constructor(bytes: Uint8Array) {
    const reader = new ByteReader(bytes);
    const version = reader.u8();
    if (version !== SUMMARY_VERSION) {
      throw new AppError(
        'UNSUPPORTED',
        `unable to read the summary of a log segment: version ${version} is not known`,
      );
    }
    this.bytes = bytes;
    this.facts = readFacts(reader);
    this.#sections = Array.from({ length: SECTIONS }, () => reader.block());
    if (reader.remainingBytes > 0) throw damaged('it goes on behind its end');
  }

  get timeline(): number {
    return this.facts.timeline;
  }
  get lsn(): bigint {
    return this.facts.lsn;
  }
  get endLsn(): bigint {
    return this.lsn + BigInt(this.facts.lengthBytes);
  }
  get segmentSize(): number {
    return this.facts.segmentSize;
  }
  get majorVersion(): PostgresMajorVersion {
    return this.facts.majorVersion;
  }
  get systemIdentifier(): string {
    return this.facts.systemIdentifier;
  }
  get ended(): SegmentSummary['ended'] {
    return this.facts.ended;
  }
  get verified(): boolean {
    return this.facts.verified;
  }
  get recordCount(): number {
    return this.facts.recordCount;
  }
  get firstRecordLsn(): bigint | null {
    return this.#lsnAt(this.facts.firstRecordAt);
  }
  get lastRecordLsn(): bigint | null {
    return this.#lsnAt(this.facts.lastRecordAt);
  }
  get previousRecordLsn(): bigint | null {
    return this.facts.previousRecordLsn === 0n ? null : this.facts.previousRecordLsn;
  }
  get head(): RecordPart | null {
    return this.facts.head;
  }
  get tail(): RecordPart | null {
    return this.facts.tail;
  }

  get storage(): readonly StorageEvent[] {
    return storageEvents(this.kept(), this);
  }

  get events(): readonly WalEvent[] {
    return logEvents(this.kept(), this);
  }

  get seconds(): readonly SecondTotals[] {
    this.#seconds ??= this.secondTotals().map(({ rows, ...totals }) => ({
      ...totals,
      rows: relationRows(rows, this.relations),
    }));
    return this.#seconds;
  }

  get commits(): number {
    return this.seconds.reduce((sum, { commits }) => sum + commits, 0);
  }
  get aborts(): number {
    return this.seconds.reduce((sum, { aborts }) => sum + aborts, 0);
  }
  get pageCount(): number {
    return new ByteReader(this.#section(SECTION_PAGES)).number();
  }

  *transactions(
    options: { readonly minimumRows?: number } = {},
  ): Generator<TransactionSummary, void, undefined> {
    const { minimumRows = 0 } = options;
    for (const entry of this.endedEntries()) {
      if (entry.rows >= minimumRows || entry.isRemarkable)
        yield transactionSummary(entry.part(), this.lsn, this.relations);
    }
  }

  get open(): readonly TransactionSummary[] {
    return this.openParts().map(part => transactionSummary(part, this.lsn, this.relations));
  }

  get relations(): readonly RelationFile[] {
    if (this.#relations !== null) return this.#relations;
    const reader = new ByteReader(this.#section(SECTION_RELATIONS));
    this.#relations = Array.from({ length: reader.count(RELATION_BYTES) }, () => ({
      tablespace: reader.number(),
      database: reader.number(),
      file: reader.number(),
    }));
    return this.#relations;
  }

  kept(): KeptRecord[] {
    const reader = new ByteReader(this.#section(SECTION_KEPT));
    return Array.from({ length: reader.count(3) }, () => {
      const at = reader.number();
      return { at, endAt: at + reader.number(), bytes: reader.block() };
    });
  }

  loose(): { readonly orphans: readonly number[]; readonly locks: readonly RelationLock[] } {
    const reader = new ByteReader(this.#section(SECTION_LOOSE));
    const orphans = readNumbers(reader);
    const locks = Array.from({ length: reader.count(3) }, () => ({
      xid: reader.number(),
      database: reader.number(),
      file: reader.number(),
    }));
    return { orphans, locks };
  }

  secondTotals(): (Second & { readonly second: number })[] {
    const reader = new ByteReader(this.#section(SECTION_SECONDS));
    return Array.from({ length: reader.count(4) }, () => ({
      second: reader.number(),
      commits: reader.number(),
      aborts: reader.number(),
      rows: readRows(reader),
    }));
  }

  openParts(): TransactionPart[] {
    const reader = new ByteReader(this.#section(SECTION_OPEN));
    return Array.from({ length: reader.count(PART_BYTES) }, () => readPart(reader));
  }

  *endedEntries(): Generator<EndedEntry, void, undefined> {
    const section = this.#section(SECTION_ENDED);
    const reader = new ByteReader(section);
    const count = reader.count(ENDED_BYTES);
    const xids = reader.at;
    const rows = xids + 4 * count;
    const offsets = rows + 4 * count;
    const flags = offsets + 4 * count;
    reader.take(ENDED_BYTES * count);
    const body = reader.block();
    for (let index = 0; index < count; index += 1) {
      const flag = section[flags + index]!;
      yield {
        xid: readU32(section, xids + 4 * index),
        rows: readU32(section, rows + 4 * index),
        isRemarkable: (flag & PART_IS_REMARKABLE) !== 0,
        hasSubtransactions: (flag & PART_HAS_SUBTRANSACTIONS) !== 0,
        part: () => readPart(new ByteReader(body, readU32(section, offsets + 4 * index))),
      };
    }
  }

  /** Calls `visit` for every page changed: the fork as in the content, and whether redo overwrites it first. */
  forEachPage(visit: (relation: number, fork: number, block: number, overwritten: number) => void): void {
    const reader = new ByteReader(this.#section(SECTION_PAGES));
    reader.number();
    const known = this.relations.length;
    for (let forks = reader.count(3); forks > 0; forks -= 1) {
      const key = reader.number();
      const relation = Math.floor(key / 4);
      if (relation >= known) throw damaged(`it has no relation ${relation}`);
      let block = 0;
      for (let left = reader.count(); left > 0; left -= 1) {
        const step = reader.number();
        block += Math.floor(step / 2);
        visit(relation, key % 4, block, step % 2);
      }
    }
  }

  #section(number: number): Uint8Array {
    return this.#sections[number]!;
  }

  #lsnAt(at: number): bigint | null {
    return at < 0 ? null : this.lsn + BigInt(at);
  }
}

const SECTION_RELATIONS = 0;
const SECTION_KEPT = 1;
const SECTION_LOOSE = 2;
const SECTION_OPEN = 3;
const SECTION_ENDED = 4;
const SECTION_SECONDS = 5;
const SECTION_PAGES = 6;
const SECTIONS = 7;

function readFacts(reader: ByteReader): SummaryFacts {
  const start = {
    timeline: reader.number(),
    lsn: reader.u64(),
    lengthBytes: reader.number(),
    segmentSize: reader.number(),
    majorVersion: reader.u8(),
    systemIdentifier: reader.u64().toString(),
  };
  const ended = ENDED[reader.u8()];
  if (ended === undefined || !isSegmentSize(start.segmentSize) || !isKnownVersion(start.majorVersion))
    throw damaged('its facts make no sense');
  const verified = reader.u8() === 1;
  return {
    ...start,
    majorVersion: start.majorVersion,
    ended,
    verified,
    recordCount: reader.number(),
    firstRecordAt: reader.number() - 1,
    lastRecordAt: reader.number() - 1,
    previousRecordLsn: reader.u64(),
    cutRecordAt: reader.number() - 1,
    resetAt: reader.number() - 1,
    folded: { count: reader.number(), behindXid: reader.number() },
    head: readRecordPart(reader),
    tail: readRecordPart(reader),
  };
}

function isKnownVersion(version: number): version is PostgresMajorVersion {
  return version >= 14 && version <= 18;
}

function readRecordPart(reader: ByteReader): RecordPart | null {
  if (reader.u8() === 0) return null;
  const missingBehind = reader.number();
  return { missingBehind, bytes: reader.block() };
}

function readPart(reader: ByteReader): TransactionPart {
  const xid = reader.number();
  const topXid = reader.number();
  const part = new TransactionPart(xid, reader.number());
  part.topXid = topXid;
  const outcome = reader.u8();
  part.outcome = outcome & ~CHANGES_PLACES;
  part.changesPlaces = (outcome & CHANGES_PLACES) !== 0;
  if (part.outcome > OUTCOME_CRASHED) throw damaged(`it has no outcome ${part.outcome}`);
  if (part.outcome !== OUTCOME_OPEN) {
    part.endAt = reader.number();
    part.recordEndAt = part.endAt + reader.number();
    part.timeUs = reader.number();
    if (reader.u8() === 1) part.gid = reader.text();
    part.subxids = readNumbers(reader);
  }
  part.rows.addAll(readRows(reader));
  part.dropped = readNumbers(reader);
  part.created = readNumbers(reader);
  return part;
}

function readRows(reader: ByteReader): RowCounts {
  const rows = new RowCounts();
  for (let left = reader.count(4) * 4; left > 0; left -= 1) rows.items.push(reader.number());
  return rows;
}

function readNumbers(reader: ByteReader): number[] {
  return Array.from({ length: reader.count() }, () => reader.number());
}

function damaged(why: string): AppError {
  return new AppError('CORRUPT', `unable to read the summary of a log segment: ${why}`);
}
