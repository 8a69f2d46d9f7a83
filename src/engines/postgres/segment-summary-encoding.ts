import { ByteWriter } from './byte-stream.ts';
import type { PageSet } from './change-map-pages.ts';
import {
  ENDED,
  type KeptRecord,
  PART_HAS_SUBTRANSACTIONS,
  PART_IS_REMARKABLE,
  type Second,
  SUMMARY_VERSION,
  type SummaryContent,
  type SummaryFacts,
} from './segment-summary-content.ts';
import { OUTCOME_OPEN, ROW_ITEMS, type RowCounts, type TransactionPart } from './segment-summary-parts.ts';

/** Added to a transaction's outcome. */
const CHANGES_PLACES = 0x80;
const MAX_U32 = 0xffffffff;

/**
 * A summary's bytes; docs/format.md describes them. They depend on the log alone, not on how the summary came about: two
 * merged neighbours have the very bytes of their joined log.
 */
export function encodeContent(content: SummaryContent): Uint8Array {
  const writer = new ByteWriter();
  const { relations, places } = content.relations.sorted();
  writer.u8(SUMMARY_VERSION);
  writeFacts(writer, content.facts);
  const section = (write: (section: ByteWriter) => void): void => {
    const inner = new ByteWriter();
    write(inner);
    writer.block(inner.bytes);
  };
  section(inner => {
    inner.number(relations.length);
    for (const { tablespace, database, file } of relations) {
      inner.number(tablespace);
      inner.number(database);
      inner.number(file);
    }
  });
  section(inner => writeKept(inner, content.kept));
  section(inner => {
    const orphans = content.orphans.map(number => places[number]!);
    writePlaces(inner, orphans);
    // In their order: the first lock on a relation is its creator's.
    inner.number(content.locks.length);
    for (const lock of content.locks) {
      inner.number(lock.xid);
      inner.number(lock.database);
      inner.number(lock.file);
    }
  });
  section(inner => {
    inner.number(content.open.length);
    for (const part of [...content.open].sort((a, b) => a.xid - b.xid)) writePart(inner, part, places);
  });
  section(inner => writeEnded(inner, content.ended, places));
  section(inner => writeSeconds(inner, content.seconds, places));
  section(inner => writePages(inner, content.pages, places));
  return writer.bytes.slice();
}

function writeFacts(writer: ByteWriter, facts: SummaryFacts): void {
  writer.number(facts.timeline);
  writer.u64(facts.lsn);
  writer.number(facts.lengthBytes);
  writer.number(facts.segmentSize);
  writer.u8(facts.majorVersion);
  writer.u64(BigInt(facts.systemIdentifier));
  writer.u8(ENDED.indexOf(facts.ended));
  writer.u8(facts.verified ? 1 : 0);
  writer.number(facts.recordCount);
  writer.number(facts.firstRecordAt + 1);
  writer.number(facts.lastRecordAt + 1);
  writer.u64(facts.previousRecordLsn);
  writer.number(facts.cutRecordAt + 1);
  writer.number(facts.resetAt + 1);
  writer.number(facts.folded.count);
  writer.number(facts.folded.behindXid);
  for (const part of [facts.head, facts.tail]) {
    writer.u8(part === null ? 0 : 1);
    if (part === null) continue;
    writer.number(part.missingBehind);
    writer.block(part.bytes);
  }
}

function writeKept(writer: ByteWriter, kept: readonly KeptRecord[]): void {
  writer.number(kept.length);
  for (const { at, endAt, bytes } of kept) {
    writer.number(at);
    writer.number(endAt - at);
    writer.block(bytes);
  }
}

function writePart(writer: ByteWriter, part: TransactionPart, places: Uint32Array): void {
  writer.number(part.xid);
  writer.number(part.topXid);
  writer.number(part.firstAt);
  writer.u8(part.outcome + (part.changesPlaces ? CHANGES_PLACES : 0));
  if (part.outcome !== OUTCOME_OPEN) {
    writer.number(part.endAt);
    writer.number(part.recordEndAt - part.endAt);
    writer.number(part.timeUs);
    writer.u8(part.gid === null ? 0 : 1);
    if (part.gid !== null) writer.text(part.gid);
    writer.number(part.subxids.length);
    for (const xid of part.subxids) writer.number(xid);
  }
  writeRows(writer, part.rows, places);
  for (const list of [part.dropped, part.created])
    if (list.length === 0) writer.number(0);
    else
      writePlaces(
        writer,
        list.map(number => places[number]!),
      );
}

function writePlaces(writer: ByteWriter, list: number[]): void {
  list.sort((a, b) => a - b);
  writer.number(list.length);
  for (const place of list) writer.number(place);
}

function writeRows(writer: ByteWriter, { items }: RowCounts, places: Uint32Array): void {
  writer.number(items.length / ROW_ITEMS);
  if (items.length <= ROW_ITEMS) {
    if (items.length > 0) writeRelationRows(writer, items, 0, places);
    return;
  }
  const starts = Array.from({ length: items.length / ROW_ITEMS }, (_, index) => index * ROW_ITEMS);
  starts.sort((a, b) => places[items[a]!]! - places[items[b]!]!);
  for (const at of starts) writeRelationRows(writer, items, at, places);
}

function writeRelationRows(
  writer: ByteWriter,
  items: readonly number[],
  at: number,
  places: Uint32Array,
): void {
  writer.number(places[items[at]!]!);
  writer.number(items[at + 1]!);
  writer.number(items[at + 2]!);
  writer.number(items[at + 3]!);
}

/** Columns first, so that a reader can pass over the small transactions without decoding them. */
function writeEnded(writer: ByteWriter, parts: readonly TransactionPart[], places: Uint32Array): void {
  const byEnd = (a: TransactionPart, b: TransactionPart): number => a.endAt - b.endAt || a.xid - b.xid;
  const isOrdered = parts.every((part, index) => index === 0 || byEnd(parts[index - 1]!, part) < 0);
  const ordered = isOrdered ? parts : [...parts].sort(byEnd);
  const body = new ByteWriter();
  const offsets: number[] = [];
  for (const part of ordered) {
    offsets.push(body.length);
    writePart(body, part, places);
  }
  writer.number(ordered.length);
  for (const part of ordered) writer.u32(part.xid);
  for (const part of ordered) writer.u32(Math.min(part.rows.total, MAX_U32));
  for (const offset of offsets) writer.u32(offset);
  for (const part of ordered) {
    const remarkable = part.isRemarkable ? PART_IS_REMARKABLE : 0;
    writer.u8(remarkable | (part.subxids.length > 0 ? PART_HAS_SUBTRANSACTIONS : 0));
  }
  writer.block(body.bytes);
}

function writeSeconds(writer: ByteWriter, seconds: ReadonlyMap<number, Second>, places: Uint32Array): void {
  writer.number(seconds.size);
  for (const [second, totals] of [...seconds].sort(([a], [b]) => a - b)) {
    writer.number(second);
    writer.number(totals.commits);
    writer.number(totals.aborts);
    writeRows(writer, totals.rows, places);
  }
}

function writePages(writer: ByteWriter, pages: PageSet, places: Uint32Array): void {
  const forks: { readonly key: number; readonly blocks: Uint32Array; readonly marks: Uint8Array }[] = [];
  pages.forEachFork((number, blocks, marks) => {
    forks.push({ key: places[number >>> 2]! * 4 + (number & 3), blocks, marks });
  });
  forks.sort((a, b) => a.key - b.key);
  writer.number(pages.size);
  writer.number(forks.length);
  for (const { key, blocks, marks } of forks) {
    writer.number(key);
    writer.number(blocks.length);
    let last = 0;
    for (let index = 0; index < blocks.length; index += 1) {
      const block = blocks[index]!;
      writer.number((block - last) * 2 + marks[index]!);
      last = block;
    }
  }
}
