import { AppError } from '../../base/errors.ts';
import { readU16, readU32, readU64 } from './little-endian.ts';
import { formatLsn } from './lsn.ts';

/**
 * The pages that the log is cut into. Each starts with a header: a long one at the start of a segment, else a short
 * one. Records flow over the pages; where one is cut by a page's end, the next page's header says how many of its
 * bytes follow.
 * @source access/xlog_internal.h
 */
export const WAL_PAGE_BYTES = 8192;

/** Every record and the first byte behind a page header stand at a multiple of this. @source MAXIMUM_ALIGNOF */
const WAL_ALIGNMENT = 8;

/** A position or a length, in bytes, up to where the next record can start. */
export function alignUp(bytes: number): number {
  // Bit operations look at the lower 32 bits alone, which are all that matters here.
  return bytes + (-bytes & (WAL_ALIGNMENT - 1));
}

export const SHORT_HEADER_BYTES = 24;
export const LONG_HEADER_BYTES = 40;

const FIRST_IS_CONTINUATION = 0x01;
const LONG_HEADER = 0x02;
const FIRST_IS_OVERWRITE = 0x08;
const ALL_FLAGS = 0x0f;

export type PostgresMajorVersion = 14 | 15 | 16 | 17 | 18;

/** @source access/xlog_internal.h of each release, XLOG_PAGE_MAGIC */
const versionsByMagic = new Map<number, PostgresMajorVersion>([
  [0xd10d, 14],
  [0xd110, 15],
  [0xd113, 16],
  [0xd116, 17],
  [0xd118, 18],
]);

export interface WalPageHeader {
  /** Null when the magic number is none of PostgreSQL 14 to 18. */
  readonly version: PostgresMajorVersion | null;
  readonly magic: number;
  readonly timeline: number;
  readonly address: bigint;
  /** The page starts with the rest of a record begun before it. */
  readonly continues: boolean;
  /**
   * The page starts with a new record although one was cut off by the end of the page before: a crash lost its rest,
   * and the server that recovered wrote on from here.
   */
  readonly overwrites: boolean;
  /** Bytes that are still to come, on this page and the following, of the record that continues; otherwise 0. */
  readonly remainingBytes: number;
  readonly flags: number;
  /** What only the long header says. */
  readonly segment: {
    readonly systemIdentifier: string;
    readonly segmentSize: number;
    readonly pageSize: number;
  } | null;
}

/** The header size of the page that starts `offset` bytes into the log, counted from the start of any segment. */
export function pageHeaderBytes(offset: number, segmentSize: number): number {
  return offset % segmentSize === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
}

/** Reads the page header at `at`, which must be there in full; of a long header, `size` is LONG_HEADER_BYTES. */
export function parsePageHeader(bytes: Uint8Array, at: number, size: number): WalPageHeader {
  const magic = readU16(bytes, at);
  const flags = readU16(bytes, at + 2);
  return {
    version: versionsByMagic.get(magic) ?? null,
    magic,
    flags,
    timeline: readU32(bytes, at + 4),
    address: readU64(bytes, at + 8),
    continues: (flags & FIRST_IS_CONTINUATION) !== 0,
    overwrites: (flags & FIRST_IS_OVERWRITE) !== 0,
    remainingBytes: readU32(bytes, at + 16),
    segment:
      size === LONG_HEADER_BYTES && (flags & LONG_HEADER) !== 0
        ? {
            systemIdentifier: readU64(bytes, at + 24).toString(),
            segmentSize: readU32(bytes, at + 32),
            pageSize: readU32(bytes, at + 36),
          }
        : null,
  };
}

/** What is wrong with a page header, and whether that is what the end of a log looks like. */
export interface PageFault {
  /** `unwritten`: zeros; `stale`: left by an earlier use of the file; `damaged`: neither. */
  readonly reason: 'unwritten' | 'stale' | 'damaged';
  readonly message: string;
}

/**
 * Whether this header belongs to the page at `address` of a log whose pages so far were of `version`, on `timeline` or
 * one before it. Null when it does.
 * @source access/transam/xlogreader.c, XLogReaderValidatePageHeader
 */
export function checkPageHeader(
  header: WalPageHeader,
  expected: {
    readonly address: bigint;
    readonly isSegmentStart: boolean;
    readonly version: PostgresMajorVersion | null;
    readonly timeline: number;
  },
): PageFault | null {
  const damaged = (message: string): PageFault => ({ reason: 'damaged', message });
  if (header.magic === 0 && header.address === 0n) {
    return { reason: 'unwritten', message: 'the page is not written yet' };
  }
  if (header.version === null || (expected.version !== null && header.version !== expected.version)) {
    return damaged(`the page has ${magicText(header)}`);
  }
  if ((header.flags & ~ALL_FLAGS) !== 0) return damaged(`the page has flags ${header.flags.toString(16)}`);
  if (header.address !== expected.address) {
    const message = `the page says it is the one at ${formatLsn(header.address)}`;
    // A server renames segments it no longer needs to future ones, with what is in them.
    return { reason: header.address < expected.address ? 'stale' : 'damaged', message };
  }
  if ((header.segment !== null) !== expected.isSegmentStart) {
    return damaged(
      `the page has the header of a page ${expected.isSegmentStart ? 'within' : 'at the start of'} a segment`,
    );
  }
  if (header.timeline < expected.timeline) {
    return {
      reason: 'stale',
      message: `the page is of timeline ${header.timeline}, before ${expected.timeline}`,
    };
  }
  return null;
}

/**
 * Refuses the first page of a segment of another system, or of a build that is not supported.
 * @throws SYSTEM_MISMATCH ENGINE_VERSION
 */
export function assertSegment(
  { segment, address }: WalPageHeader,
  expected: { readonly segmentSize: number; readonly systemIdentifier: string },
): void {
  if (segment === null) return;
  const what = `unable to read the log segment at ${formatLsn(address)}`;
  if (segment.pageSize !== WAL_PAGE_BYTES) {
    throw new AppError('ENGINE_VERSION', `${what}: its pages have ${segment.pageSize} bytes`, {
      hint: `Supported are servers compiled with log pages of ${WAL_PAGE_BYTES} bytes, as every packaged one is.`,
    });
  }
  const hint = 'The segment is of another database system.';
  if (segment.segmentSize !== expected.segmentSize) {
    const sizes = `it has ${segment.segmentSize} bytes, expected were ${expected.segmentSize}`;
    throw new AppError('SYSTEM_MISMATCH', `${what}: ${sizes}`, { hint });
  }
  if (segment.systemIdentifier !== expected.systemIdentifier) {
    const systems = `it is of system ${segment.systemIdentifier}, expected was ${expected.systemIdentifier}`;
    throw new AppError('SYSTEM_MISMATCH', `${what}: ${systems}`, { hint });
  }
}

/** The error for a log that starts with a page of no release that is known. */
export function unknownMagic(header: WalPageHeader, lsn: bigint): AppError {
  return new AppError(
    'ENGINE_VERSION',
    `unable to read the log at ${formatLsn(lsn)}: its pages have ${magicText(header)}`,
    {
      hint: 'Supported is the log of PostgreSQL 14 to 18. If it is of one of these, the segment is damaged.',
    },
  );
}

function magicText({ magic }: WalPageHeader): string {
  return `magic number ${magic.toString(16).toUpperCase().padStart(4, '0')}`;
}
