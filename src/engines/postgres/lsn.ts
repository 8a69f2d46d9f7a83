import { AppError, assert } from '../../base/errors.ts';
import { GIB, MIB } from '../../base/sizes.ts';

/** An LSN is a byte position in the log, 64 bits, hence a bigint everywhere outside the reader's inner loops. */

const XLOG_ID_BYTES = 0x1_0000_0000;

/** Reads `16/B374D848`. @throws USAGE when the text is no LSN. */
export function parseLsn(text: string): bigint {
  const match = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text);
  if (!match) {
    throw new AppError('USAGE', `unable to read the log position '${text}'`, {
      hint: 'Write it as PostgreSQL prints it, for example 16/B374D848.',
    });
  }
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/** Writes `16/B374D848`, as `pg_lsn` prints it. */
export function formatLsn(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/**
 * Whether this is a segment size that initdb accepts: a power of two from 1 MB to 1 GB.
 * @source access/xlog_internal.h, IsValidWalSegSize
 */
export function isSegmentSize(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= MIB && bytes <= GIB && (bytes & (bytes - 1)) === 0;
}

/** The start of the segment that holds the byte at `lsn`. */
export function segmentStart(lsn: bigint, segmentSize: number): bigint {
  assert(isSegmentSize(segmentSize), `${segmentSize} is no log segment size`);
  return lsn - (lsn % BigInt(segmentSize));
}

/** The start of the segment after the one that holds the byte at `lsn`. */
export function nextSegment(lsn: bigint, segmentSize: number): bigint {
  return segmentStart(lsn, segmentSize) + BigInt(segmentSize);
}

/**
 * Where a record that follows the one that ends at `lsn` begins: there, or behind the header of a page.
 * @source access/xlog_internal.h, SizeOfXLogLongPHD, SizeOfXLogShortPHD; pages of the log have 8 KiB
 */
export function nextRecordStart(lsn: bigint, segmentSize: number): bigint {
  if (lsn % 8192n !== 0n) return lsn;
  return lsn + (lsn === segmentStart(lsn, segmentSize) ? 40n : 24n);
}

/**
 * The file name of the segment that holds the byte at `lsn`.
 * @source access/xlog_internal.h, XLogFileName
 */
export function segmentName(timeline: number, lsn: bigint, segmentSize: number): string {
  assert(isSegmentSize(segmentSize), `${segmentSize} is no log segment size`);
  const segmentInId = (lsn & 0xffffffffn) / BigInt(segmentSize);
  return hex8(timeline) + hex8(lsn >> 32n) + hex8(segmentInId);
}

/** Where the segment of this name starts, or null when the name is not that of a whole segment of this size. */
export function parseSegmentName(
  name: string,
  segmentSize: number,
): { timeline: number; lsn: bigint } | null {
  const file = classifyLogFileName(name, segmentSize);
  return file?.kind === 'segment' && file.lsn !== undefined
    ? { timeline: file.timeline, lsn: file.lsn }
    : null;
}

/** A file of pg_wal or of an archive, by its name. */
export interface LogFileName {
  /**
   * `segment`: a whole one; `partial`: the last one of a timeline that ended within it; `history`: where a timeline
   * left its parents; `backup`: the label of a finished base backup.
   */
  readonly kind: 'segment' | 'partial' | 'history' | 'backup';
  readonly timeline: number;
  /**
   * Segment and partial: the start of the segment. Backup: the start of the backup. Absent for a history file, and
   * where no segment size was given.
   */
  readonly lsn?: bigint;
}

/**
 * What kind of file of the log this name means, or null when it is none, or is none for this segment size. Only upper
 * case counts: on a file system, PostgreSQL takes nothing else for its own.
 * @source access/xlog_internal.h, IsXLogFileName, IsPartialXLogFileName, IsTLHistoryFileName, IsBackupHistoryFileName
 */
export function classifyLogFileName(name: string, segmentSize?: number): LogFileName | null {
  const match =
    /^([0-9A-F]{8})(?:(\.history)|([0-9A-F]{8})([0-9A-F]{8})(\.partial|\.([0-9A-F]{8})\.backup)?)$/.exec(
      name,
    );
  if (!match) return null;
  const [, timelineText, history, idText, segmentText, suffix, offsetText] = match;
  const timeline = Number.parseInt(timelineText!, 16);
  // Timeline 0 is InvalidTimeLineID: the server writes no file for it.
  if (timeline === 0) return null;
  if (history !== undefined) return { kind: 'history', timeline };

  const kind = suffix === undefined ? 'segment' : suffix === '.partial' ? 'partial' : 'backup';
  if (segmentSize === undefined) return { kind, timeline };
  assert(isSegmentSize(segmentSize), `${segmentSize} is no log segment size`);
  const segmentInId = Number.parseInt(segmentText!, 16);
  const offset = offsetText === undefined ? 0 : Number.parseInt(offsetText, 16);
  if (segmentInId >= XLOG_ID_BYTES / segmentSize || offset >= segmentSize) return null;
  const start = (BigInt(`0x${idText}`) << 32n) + BigInt(segmentInId) * BigInt(segmentSize);
  return { kind, timeline, lsn: start + BigInt(offset) };
}

function hex8(value: number | bigint): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}
