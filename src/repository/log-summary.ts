import { AppError } from '../base/errors.ts';
import { HEADER_BYTES } from '../crypto/sealed-frame.ts';
import type { CallOptions } from '../storage/storage.ts';
import { FRAME_BODY_BYTES } from './compression.ts';
import { logSummariesPrefix, logSummaryPath } from './layout.ts';
import type { LogOwner } from './log-archive.ts';
import type { Repository } from './repository.ts';
import { openFrame, openSealedBytes } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

/** It is stored for every segment and read by the thousands: little work counts for more than a few bytes. */
const LEVEL = 1;
/** What a damaged footer may make us hold; a summary has tens or hundreds of kilobytes. */
const MAX_SUMMARY_BYTES = 64 * FRAME_BODY_BYTES;

/**
 * Stores the summary of the log segment `name`; `'same'` when there is one: it is left, whatever it is. Nothing is lost with
 * a summary: it can be made again from the log.
 */
export async function putLogSummary(
  repository: Repository,
  summary: LogOwner & { readonly name: string; readonly bytes: Uint8Array },
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  const { name, bytes, systemIdentifier } = summary;
  const path = logSummaryPath(summary, name);
  const writer = new SealedWriter({ kind: 'summary', path, keyring: repository.keyring, level: LEVEL });
  for (let at = 0; at < bytes.length; at += FRAME_BODY_BYTES)
    writer.addFrame(bytes.subarray(at, at + FRAME_BODY_BYTES));
  writer.finish({ name, sizeBytes: bytes.length, systemIdentifier });
  return (await repository.storage.put(path, writer.take(), options)) === 'created' ? 'stored' : 'same';
}

/** The stored summary of a segment; null when there is none. @throws CORRUPT UNSUPPORTED KEY_WRONG */
export async function getLogSummary(
  repository: Repository,
  segment: LogOwner & { readonly name: string },
  options: CallOptions = {},
): Promise<Uint8Array | null> {
  const path = logSummaryPath(segment, segment.name);
  const stored = await repository.storage.get(path, undefined, options);
  if (stored === null) return null;
  const object = openSealedBytes(stored, { path, kind: 'summary', keyring: repository.keyring });
  const size = Number(object.footer['sizeBytes']);
  if (!(size >= 0 && size <= MAX_SUMMARY_BYTES)) throw damaged(path, `it says that it is ${size} bytes long`);
  const bytes = new Uint8Array(size);
  let at = 0;
  let offset = HEADER_BYTES;
  for (const [number, [length, raw]] of object.footer.frames.entries()) {
    if (at + raw > size) throw damaged(path, 'it is longer than it says');
    bytes.set(openFrame(object.cipher, { number, raw, path }, stored.subarray(offset, offset + length)), at);
    at += raw;
    offset += length;
  }
  if (at !== size) throw damaged(path, 'it is shorter than it says');
  return bytes;
}

/** The names of the segments of which a summary is stored. */
export async function* listLogSummaries(
  repository: Repository,
  owner: LogOwner,
  options: CallOptions = {},
): AsyncGenerator<string, void, undefined> {
  for await (const { key } of repository.storage.list(logSummariesPrefix(owner), options))
    yield key.slice(key.lastIndexOf('/') + 1);
}

/** Removes a summary that cannot be read, so that another can be stored. */
export async function deleteLogSummary(
  repository: Repository,
  segment: LogOwner & { readonly name: string },
  options: CallOptions = {},
): Promise<void> {
  await repository.storage.delete(logSummaryPath(segment, segment.name), options);
}

function damaged(path: string, why: string): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path } });
}
