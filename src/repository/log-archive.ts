import { createHash } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import { HEADER_BYTES } from '../crypto/sealed-frame.ts';
import type { CallOptions } from '../storage/storage.ts';
import { FRAME_BODY_BYTES } from './compression.ts';
import { logPath, logPrefix } from './layout.ts';
import { LogObject, type LogObjectFacts } from './log-object.ts';
import {
  joinableParts,
  joinParts,
  type LogPart,
  PARTIAL_SUFFIX,
  parsePartName,
  partName,
  reachOf,
} from './log-parts.ts';
import type { Repository } from './repository.ts';
import { openFrame, openSealedBytes } from './sealed-reader.ts';

/** A usual segment of 16 MiB at once on all processors; larger ones within bounded memory. */
const FRAMES_AT_ONCE = 16;
/** What sealing adds to a log file that does not compress: tags, the footer. */
export const BUFFER_MARGIN_BYTES = 64 * 1024;

/** A log file to be stored. */
export interface FileToPut extends LogObjectFacts {
  readonly bytes: Uint8Array;
  /**
   * True where nobody waits for it: it is compressed in this thread, one frame after the other in the same memory, which takes
   * half the work of all processors at once (measured for 100 MB of log: 108 ms against 200).
   */
  readonly inThisThread?: boolean;
}

/** Whose log: an instance, and which database system it was at the time. */
export interface LogOwner {
  readonly instance: string;
  /** Decimal. */
  readonly systemIdentifier: string;
}

export interface LogFile {
  /** PostgreSQL's name: `000000010000000000000003`, `00000002.history`, `….partial`, `….backup`; or that of a piece. */
  readonly name: string;
  readonly storedBytes: number;
  readonly storedMs: number;
}

/**
 * Stores a log file. `'stored'` when it is durable now, `'same'` when the very same bytes were there.
 *
 * @throws LOG_CONFLICT when there is one of this name with other bytes: nothing is overwritten
 */
export async function putLogFile(
  repository: Repository,
  file: FileToPut,
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  const { bytes, inThisThread = false, ...facts } = file;
  const buffer = facts.buffer ?? new Uint8Array(bytes.length + BUFFER_MARGIN_BYTES);
  const object = new LogObject(repository, { ...facts, buffer });
  const step = (inThisThread ? 1 : FRAMES_AT_ONCE) * FRAME_BODY_BYTES;
  for (let at = 0; at < bytes.length; at += step) {
    const piece = bytes.subarray(at, at + step);
    if (inThisThread) object.add(piece);
    else await object.addInBackground(piece);
  }
  return (await object.put(options)).outcome;
}

/**
 * Archives the bytes of a segment from `from` on before it is full. The same bytes again are fine; nothing is replaced.
 *
 * @throws LOG_CONFLICT when there is such a piece with other bytes
 */
export async function putLogPart(
  repository: Repository,
  part: LogOwner & {
    readonly segment: string;
    readonly from: number;
    readonly bytes: Uint8Array;
  } & Pick<FileToPut, 'level' | 'inThisThread'>,
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  const { segment, from, ...file } = part;
  const name = partName(segment, from, from + part.bytes.length);
  return await putLogFile(repository, { ...file, name }, options);
}

/**
 * Reads a log file whole (a segment: 1 MiB to 1 GiB); null when it is not archived. `<segment>.partial` is what there is
 * of a segment that was never full, in a segment's size: its pieces joined, zeros behind their end; else the object of
 * that very name.
 *
 * @throws CORRUPT
 */
export async function getLogFile(
  repository: Repository,
  owner: LogOwner,
  name: string,
  options: CallOptions = {},
): Promise<Uint8Array | null> {
  if (name.endsWith(PARTIAL_SUFFIX)) {
    const segment = name.slice(0, -PARTIAL_SUFFIX.length);
    const parts = joinableParts(await listLogParts(repository, owner, segment, options));
    if (parts.length > 0) return await readParts(repository, owner, { name, parts }, options);
  }
  return await getLogObject(repository, owner, name, options);
}

async function readParts(
  repository: Repository,
  owner: LogOwner,
  joined: { readonly name: string; readonly parts: readonly LogPart[] },
  options: CallOptions,
): Promise<Uint8Array> {
  const pieces: { part: LogPart; bytes: Uint8Array }[] = [];
  for (const part of joined.parts) {
    const bytes = await getLogObject(repository, owner, part.name, options);
    if (bytes === null)
      throw new AppError('LOG_NOT_FOUND', `log file '${part.name}' is not archived any more`);
    pieces.push({ part, bytes });
  }
  return joinParts(pieces);
}

/** The archived pieces of a segment, in the order of their names. */
export async function listLogParts(
  repository: Repository,
  owner: LogOwner,
  segment: string,
  options: CallOptions = {},
): Promise<LogPart[]> {
  const parts: LogPart[] = [];
  for await (const { key } of repository.storage.list(`${logPath(owner, segment)}.`, options)) {
    const part = parsePartName(key.slice(key.lastIndexOf('/') + 1));
    if (part !== null) parts.push(part);
  }
  return parts;
}

/** How many first bytes of a segment are archived: infinitely many when it is there under its own name, or by hand as `.partial`. */
export async function archivedReach(
  repository: Repository,
  owner: LogOwner,
  segment: string,
  options: CallOptions = {},
): Promise<number> {
  const { storage } = repository;
  if ((await storage.head(logPath(owner, segment), options)) !== null) return Number.POSITIVE_INFINITY;
  const reach = reachOf(await listLogParts(repository, owner, segment, options));
  if (reach > 0) return reach;
  const byHand = await storage.head(logPath(owner, `${segment}${PARTIAL_SUFFIX}`), options);
  return byHand === null ? 0 : Number.POSITIVE_INFINITY;
}

/** Reads the object of that very name, whatever pieces there are beside it; null when there is none. @throws CORRUPT */
export async function getLogObject(
  repository: Repository,
  owner: LogOwner,
  name: string,
  options: CallOptions,
): Promise<Uint8Array | null> {
  const path = logPath(owner, name);
  const stored = await repository.storage.get(path, undefined, options);
  if (stored === null) return null;
  const object = openSealedBytes(stored, { path, kind: 'log', keyring: repository.keyring });
  const bytes = new Uint8Array(Number(object.footer['sizeBytes']));
  let at = 0;
  let offset = HEADER_BYTES;
  for (const [number, [length, raw]] of object.footer.frames.entries()) {
    bytes.set(openFrame(object.cipher, { number, raw, path }, stored.subarray(offset, offset + length)), at);
    at += raw;
    offset += length;
  }
  if (at !== bytes.length || createHash('sha256').update(bytes).digest('hex') !== object.footer['sha256']) {
    throw new AppError('CORRUPT', `object '${path}' is damaged: its content is not what its footer says`, {
      details: { object: path },
    });
  }
  return bytes;
}

/** The archived log files in ascending order of timeline and name. `from`: only files of its name or later within its timeline. */
export async function* listLogFiles(
  repository: Repository,
  owner: LogOwner,
  range: { readonly timeline?: number; readonly from?: string } = {},
  options: CallOptions = {},
): AsyncGenerator<LogFile, void, undefined> {
  const folder =
    range.timeline === undefined ? '' : `${range.timeline.toString(16).toUpperCase().padStart(8, '0')}/`;
  const prefix = `${logPrefix(owner.instance, owner.systemIdentifier)}${folder}`;
  for await (const object of repository.storage.list(prefix, options)) {
    const name = object.key.slice(object.key.lastIndexOf('/') + 1);
    if (range.from !== undefined && name < range.from) continue;
    yield { name, storedBytes: object.sizeBytes, storedMs: object.modifiedMs };
  }
}
