import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import type { ControlFile } from '../../engines/postgres/control-file.ts';
import {
  formatLsn,
  nextSegment,
  parseSegmentName,
  segmentName,
  segmentStart,
} from '../../engines/postgres/lsn.ts';
import {
  checkPageHeader,
  LONG_HEADER_BYTES,
  type PostgresMajorVersion,
  pageHeaderBytes,
  parsePageHeader,
  WAL_PAGE_BYTES,
} from '../../engines/postgres/wal-pages.ts';
import { createWalReader, type WalReader } from '../../engines/postgres/wal-reader.ts';

/** The end of a stopped server's log, as its `pg_wal` has it. */
export interface LiveLogEnd {
  /** Behind the last valid record. */
  readonly endLsn: bigint;
  /** The segments from `from` on that hold something of the log, in order. */
  readonly segments: readonly { readonly lsn: bigint; readonly path: string }[];
}

/**
 * Finds the end of the log of a server that is stopped or has crashed, reading on from the segment that holds `from`. The
 * string instead says why that end is not to be trusted: pages may have been changed by records that cannot be read.
 */
export async function findLiveLogEnd(
  directory: string,
  live: { readonly control: ControlFile; readonly from: bigint },
): Promise<LiveLogEnd | string> {
  const { control } = live;
  const segmentSize = control.walSegmentSize;
  const { timeline } = control.checkpoint;
  const startLsn = segmentStart(live.from, segmentSize);
  const segments: { lsn: bigint; path: string }[] = [];
  const reader = createWalReader({
    segmentSize,
    startLsn,
    systemIdentifier: control.systemIdentifier,
    onRecord: () => undefined,
  });
  let last: Uint8Array | null = null;
  let lsn = startLsn;
  for (; reader.end === null; lsn = nextSegment(lsn, segmentSize)) {
    const path = join(directory, segmentName(timeline, lsn, segmentSize));
    const bytes = await readIfThere(path);
    if (bytes === null) break;
    last = bytes;
    reader.push(bytes);
    if (reader.lastRecordEndLsn !== null && reader.lastRecordEndLsn > lsn) segments.push({ lsn, path });
    else if (reader.end === null) segments.push({ lsn, path });
  }
  const endLsn = reader.lastRecordEndLsn ?? live.from;
  const why = distrust(reader, { control, endLsn });
  if (why !== null) return why;
  const stopped = { lsn: reader.end?.lsn ?? lsn, version: reader.majorVersion };
  const goesOn =
    (last !== null && reader.end !== null && pageBehind(last, stopped, control)) ||
    (await segmentBehind(directory, stopped, control));
  if (goesOn) {
    const what = reader.end?.message ?? 'a segment is missing';
    return `its log is damaged at ${formatLsn(stopped.lsn)}: ${what}, and it goes on behind that`;
  }
  return { endLsn, segments };
}

function distrust(
  reader: WalReader,
  { control, endLsn }: { readonly control: ControlFile; readonly endLsn: bigint },
): string | null {
  const { checkpoint } = control;
  if (control.state === 'shut down') {
    // The last thing that a server writes as it is stopped.
    if (reader.lastRecordLsn === checkpoint.lsn) return null;
    const found = reader.lastRecordLsn === null ? 'nothing' : formatLsn(reader.lastRecordLsn);
    return `its log does not end with the checkpoint at ${formatLsn(checkpoint.lsn)} that it was stopped with, but with ${found}`;
  }
  const needed = checkpoint.lsn > control.minRecoveryLsn ? checkpoint.lsn : control.minRecoveryLsn;
  if (endLsn > checkpoint.lsn && endLsn >= needed) return null;
  return `its log ends at ${formatLsn(endLsn)}, before position ${formatLsn(needed)} that its control file names`;
}

interface Stopped {
  readonly lsn: bigint;
  readonly version: PostgresMajorVersion | null;
}

/**
 * Whether behind the end of the valid log there is a page that the server wrote at its place: then the end is damage, or
 * what a power loss has left, and records behind it may have changed pages.
 */
function pageBehind(segment: Uint8Array, stopped: Stopped, control: ControlFile): boolean {
  const start = segmentStart(stopped.lsn, control.walSegmentSize);
  const firstPage = Math.floor(Number(stopped.lsn - start) / WAL_PAGE_BYTES) + 1;
  for (let at = firstPage * WAL_PAGE_BYTES; at < segment.length; at += WAL_PAGE_BYTES)
    if (isPage(segment, { start, at, version: stopped.version }, control)) return true;
  return false;
}

/** The same of the segments behind it, by their first pages: old ones that were renamed for later say where they were. */
async function segmentBehind(directory: string, stopped: Stopped, control: ControlFile): Promise<boolean> {
  for (const name of await readdir(directory)) {
    const own = parseSegmentName(name, control.walSegmentSize);
    if (own?.timeline !== control.checkpoint.timeline || own.lsn <= stopped.lsn) continue;
    await using file = await open(join(directory, name), 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LONG_HEADER_BYTES), 0, LONG_HEADER_BYTES, 0);
    const page = { start: own.lsn, at: 0, version: stopped.version };
    if (bytesRead === LONG_HEADER_BYTES && isPage(buffer, page, control)) return true;
  }
  return false;
}

function isPage(
  segment: Uint8Array,
  page: { readonly start: bigint; readonly at: number; readonly version: PostgresMajorVersion | null },
  control: ControlFile,
): boolean {
  const size = pageHeaderBytes(page.at, control.walSegmentSize);
  const expected = {
    address: page.start + BigInt(page.at),
    isSegmentStart: size === LONG_HEADER_BYTES,
    version: page.version,
    timeline: control.checkpoint.timeline,
  };
  return checkPageHeader(parsePageHeader(segment, page.at, size), expected) === null;
}

async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}

/** The content of segments, one after the other. */
export async function* readSegments(
  segments: LiveLogEnd['segments'],
): AsyncGenerator<{ readonly lsn: bigint; readonly bytes: Uint8Array }, void, undefined> {
  for (const { lsn, path } of segments) {
    const bytes = await readIfThere(path);
    if (bytes === null) throw fileError('read', path, new Error('it is gone'));
    yield { lsn, bytes };
  }
}
