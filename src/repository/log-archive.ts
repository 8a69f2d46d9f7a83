import { createHash, type Hash } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import { HEADER_BYTES } from '../crypto/sealed-frame.ts';
import type { CallOptions } from '../storage/storage.ts';
import { type CompressionLevel, compressInBackground, FRAME_BODY_BYTES } from './compression.ts';
import { logPath, logPrefix } from './layout.ts';
import type { Repository } from './repository.ts';
import { openFrame, openSealed, openSealedBytes } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

/** A usual segment of 16 MiB at once on all processors; larger ones within bounded memory. */
const FRAMES_AT_ONCE = 16;
/** What sealing adds to a log file that does not compress: tags, the footer. */
const BUFFER_MARGIN_BYTES = 64 * 1024;

/** Whose log: an instance, and which database system it was at the time. */
export interface LogOwner {
  readonly instance: string;
  /** Decimal. */
  readonly systemIdentifier: string;
}

export interface LogFile {
  /** PostgreSQL's name: `000000010000000000000003`, `00000002.history`, `….partial`, `….backup`. */
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
  file: LogOwner & { readonly name: string; readonly bytes: Uint8Array; readonly level: CompressionLevel },
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  const path = logPath(file, file.name);
  const buffer = new Uint8Array(file.bytes.length + BUFFER_MARGIN_BYTES);
  const writer = new SealedWriter({
    kind: 'log',
    path,
    keyring: repository.keyring,
    level: file.level,
    buffer,
  });
  const hash = createHash('sha256');
  for (let at = 0; at < file.bytes.length; at += FRAMES_AT_ONCE * FRAME_BODY_BYTES)
    await addFrames(writer, hash, {
      bytes: file.bytes.subarray(at, at + FRAMES_AT_ONCE * FRAME_BODY_BYTES),
      level: file.level,
    });
  const sha256 = hash.digest('hex');
  writer.finish({
    name: file.name,
    sizeBytes: file.bytes.length,
    sha256,
    systemIdentifier: file.systemIdentifier,
  });
  if ((await repository.storage.put(path, writer.take(), options)) === 'created') return 'stored';
  const present = await openSealed(
    repository.storage,
    { path, kind: 'log', keyring: repository.keyring },
    options,
  );
  if (present?.footer['sha256'] === sha256) return 'same';
  throw new AppError(
    'LOG_CONFLICT',
    `unable to archive '${file.name}': it is archived already, with other bytes`,
    {
      hint: 'Nothing was overwritten. Does another server archive under this instance name, or was a segment damaged on disk?',
      details: { object: path },
    },
  );
}

async function addFrames(
  writer: SealedWriter,
  hash: Hash,
  part: { readonly bytes: Uint8Array; readonly level: CompressionLevel },
): Promise<void> {
  const bodies: Uint8Array[] = [];
  for (let at = 0; at < part.bytes.length; at += FRAME_BODY_BYTES)
    bodies.push(part.bytes.subarray(at, at + FRAME_BODY_BYTES));
  const compressing = bodies.map(body => compressInBackground(body, part.level));
  // Hashed here while the thread pool compresses.
  hash.update(part.bytes);
  const packed = await Promise.all(compressing);
  for (const [index, body] of bodies.entries()) writer.addPacked(packed[index]!, body.length);
}

/** Reads a log file whole (a segment: 1 MiB to 1 GiB); null when it is not archived. @throws CORRUPT */
export async function getLogFile(
  repository: Repository,
  owner: LogOwner,
  name: string,
  options: CallOptions = {},
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
