import { isNewPage, pageLsn } from '../../engines/postgres/page-header.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { PackedRanges, Ranges } from './ranges.ts';

/** What of a file an incremental backup stores. What it does not store, the parent has. */
export type PageSelection =
  /** These ranges, which start and end with pages. */
  | { readonly kind: 'ranges'; readonly ranges: PackedRanges }
  /** These ranges, and of all other pages those that say that they changed at `sinceLsn` or later. */
  | { readonly kind: 'since'; readonly ranges: PackedRanges; readonly sinceLsn: bigint }
  /** Of each 1 MiB from the task's offset on: nothing, if it has this hash. Null: the parent has no hash of it. */
  | { readonly kind: 'content'; readonly hashes: readonly (string | null)[] };

/** Pages read from a file into the buffer. */
export interface PageWindow {
  readonly buffer: Uint8Array;
  /** How much of it was read. */
  readonly length: number;
  /** Where in the file it starts. */
  readonly offset: number;
}

/** Pages nobody asked for are read as well where that saves a call: reading 32 KiB from the cache costs as much. */
const READ_THROUGH_BYTES = 32 * 1024;

/** What to read, one window after the other, each of at most 1 MiB. */
export function* windowsOf(
  selection: Exclude<PageSelection, { kind: 'content' }>,
  range: { readonly offset: number; readonly length: number },
): Generator<{ readonly offset: number; readonly length: number }> {
  const windowBytes = FRAME_BODY_BYTES;
  if (selection.kind === 'since') {
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; offset += windowBytes)
      yield { offset, length: Math.min(windowBytes, end - offset) };
    return;
  }
  let start = -1;
  let end = -1;
  for (let index = 0; index < selection.ranges.length; index += 2) {
    const rangeEnd = selection.ranges[index]! + selection.ranges[index + 1]!;
    for (let at = selection.ranges[index]!; at < rangeEnd; ) {
      if (start >= 0 && (at - end > READ_THROUGH_BYTES || at - start >= windowBytes)) {
        yield { offset: start, length: end - start };
        start = -1;
      }
      if (start < 0) start = at;
      end = Math.min(start + windowBytes, rangeEnd);
      at = end;
    }
  }
  if (start >= 0) yield { offset: start, length: end - start };
}

/**
 * Collects the chosen pages of windows into bodies of 1 MiB, each in the memory given as `body`; `store` gets each, with
 * where in the file it belongs, and what is in that memory is written over once `store` has resolved.
 */
export function collectPages(
  body: Uint8Array,
  store: (body: Uint8Array, ranges: Ranges) => Promise<void>,
): {
  add(window: PageWindow, chosen: Iterable<readonly [at: number, length: number]>): Promise<void>;
  flush(): Promise<void>;
} {
  let used = 0;
  let ranges: number[] = [];
  const flush = async (): Promise<void> => {
    if (used > 0) await store(body.subarray(0, used), ranges);
    used = 0;
    ranges = [];
  };
  return {
    flush,
    async add(window, chosen) {
      for (const [from, wanted] of chosen) {
        for (let at = from; at < from + wanted; ) {
          const length = Math.min(body.length - used, from + wanted - at);
          body.set(window.buffer.subarray(at, at + length), used);
          used += length;
          const last = ranges.length - 2;
          if (last >= 0 && ranges[last]! + ranges[last + 1]! === window.offset + at)
            ranges[last + 1]! += length;
          else ranges.push(window.offset + at, length);
          at += length;
          if (used === body.length) await flush();
        }
      }
    },
  };
}

/** The parts of a window that lie in `ranges`; both ascend, so `cursor` says where the last window ended. */
export function* chosenByRanges(
  window: PageWindow,
  ranges: PackedRanges,
  cursor: { index: number },
): Generator<readonly [at: number, length: number]> {
  const end = window.offset + window.length;
  for (; cursor.index < ranges.length; cursor.index += 2) {
    const offset = ranges[cursor.index]!;
    const rangeEnd = offset + ranges[cursor.index + 1]!;
    if (offset >= end) return;
    const from = Math.max(offset, window.offset);
    const to = Math.min(rangeEnd, end);
    if (to > from) yield [from - window.offset, to - from];
    if (rangeEnd > end) return;
  }
}

/** The metapage of an SP-GiST index changes without being logged. @source access/spgist_private.h */
const SPGIST_MAGIC = 0xba0babee;
const PAGE_HEADER_BYTES = 24;

/**
 * The pages of a window that cannot be told to be what the parent has. A page's position says when it was changed last,
 * except that it has none: never initialised, or written outside the log.
 */
export function* chosenByPosition(
  window: PageWindow,
  options: { readonly sinceLsn: bigint; readonly blockSize: number; readonly firstBlock: number },
): Generator<readonly [at: number, length: number]> {
  const { buffer, length } = window;
  const { blockSize } = options;
  for (let page = 0; page * blockSize < length; page += 1) {
    const at = page * blockSize;
    if (length - at < blockSize) yield [at, length - at];
    else if (
      isNewPage(buffer, page, blockSize) ||
      hasChanged(pageLsn(buffer, page, blockSize), options.sinceLsn) ||
      (options.firstBlock + page === 0 && isSpgistMeta(buffer, at))
    )
      yield [at, blockSize];
  }
}

/** 0 and 1 are no positions; 1 is what GiST writes while it builds an index. @source access/gist.h, GistBuildLSN */
function hasChanged(lsn: bigint, sinceLsn: bigint): boolean {
  return lsn <= 1n || lsn >= sinceLsn;
}

function isSpgistMeta(buffer: Uint8Array, at: number): boolean {
  const view = new DataView(buffer.buffer, buffer.byteOffset + at, PAGE_HEADER_BYTES + 4);
  return view.getUint32(PAGE_HEADER_BYTES, true) === SPGIST_MAGIC;
}
