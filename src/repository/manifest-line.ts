import { AppError } from '../base/errors.ts';
import {
  CHUNK_LENGTH,
  CHUNK_NUMBERS,
  CHUNK_PACK,
  CHUNK_RAW,
  CHUNK_START,
  type ChunkList,
  chunkListOf,
} from './chunk-list.ts';
import { parseChunks } from './chunk-text.ts';
import { checkRestorePath } from './layout.ts';
import type { BackupFacts, ConfigLine, DirLine, FileLine, ManifestLine, PackFacts } from './manifest.ts';

/** A file's line with its chunks as columns. */
export interface PackedFileLine extends Omit<FileLine, 'c'> {
  readonly chunks: ChunkList;
}
export interface PackedConfigLine extends Omit<ConfigLine, 'c'> {
  readonly chunks: ChunkList;
}
export type PackedLine = PackedFileLine | PackedConfigLine | DirLine;

/** What a manifest's lines are checked against. */
export interface LinesOf {
  /** Of the object, for errors. */
  readonly path: string;
  readonly backup: Pick<BackupFacts, 'id'>;
  readonly packs: readonly PackFacts[];
}

/** Only a member can look like this: within a string the quotes would be escaped. */
const CHUNKS_MEMBER = '"c":[';
const NO_CHUNKS = Buffer.from(`${CHUNKS_MEMBER}]`);

/**
 * Reads a line of a manifest and checks it: no path leads outside the target directory, and no chunk to what is not there.
 * @throws CORRUPT UNSUPPORTED
 */
export function parseLine(bytes: Buffer, manifest: LinesOf): PackedLine {
  const from = bytes.indexOf(CHUNKS_MEMBER);
  const parsed = from < 0 ? null : parseChunks(bytes, from + CHUNKS_MEMBER.length);
  if (parsed !== null) {
    const rest = Buffer.concat([bytes.subarray(0, from), NO_CHUNKS, bytes.subarray(parsed.end)]);
    const line = parseJson(rest, manifest);
    // Otherwise what looked like the chunks is part of something that is not known.
    if (line.t !== 'dir' && Array.isArray(line.c) && line.c.length === 0)
      return checkChunks(line, parsed.list, manifest);
  }
  const line = parseJson(bytes, manifest);
  if (line.t === 'dir') return line;
  const list = Array.isArray(line.c) ? chunkListOf(line.c) : null;
  if (list === null) throw damagedManifest(manifest, `file '${line.p}' has chunks that are none`);
  return checkChunks(line, list, manifest);
}

/** What kind of line it is, and its path, checked; its chunks are not looked at. @throws CORRUPT UNSUPPORTED */
export function parseLineHead(bytes: Buffer, manifest: LinesOf): Pick<ManifestLine, 't' | 'p'> {
  const from = bytes.indexOf(CHUNKS_MEMBER);
  if (from >= 0) {
    const head = parseOrNull(Buffer.concat([bytes.subarray(0, from), NO_CHUNKS, Buffer.from('}')]));
    // As this program writes it, with the chunks last.
    if (head !== null && Array.isArray(head.c) && typeof head.p === 'string') return known(head, manifest);
  }
  return parseJson(bytes, manifest);
}

function checkChunks(
  { c: _, ...line }: FileLine | ConfigLine,
  chunks: ChunkList,
  manifest: LinesOf,
): PackedFileLine | PackedConfigLine {
  const { numbers } = chunks;
  const packs = manifest.packs.length;
  let total = 0;
  for (let at = 0; at < numbers.length; at += CHUNK_NUMBERS) {
    const length = numbers[at + CHUNK_LENGTH]!;
    if (numbers[at + CHUNK_PACK]! >= packs || numbers[at + CHUNK_START]! + length > numbers[at + CHUNK_RAW]!)
      throw damagedManifest(manifest, `file '${line.p}' refers to what is not there`);
    total += length;
  }
  if (total !== line.s) throw damagedManifest(manifest, `the chunks of file '${line.p}' are not its size`);
  return { ...line, chunks };
}

function parseJson(bytes: Buffer, manifest: LinesOf): ManifestLine {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw damagedManifest(manifest, 'it is not in UTF-8', error);
  }
  try {
    return known(JSON.parse(text) as ManifestLine, manifest);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw damagedManifest(manifest, 'a line of it is not JSON', error);
  }
}

function parseOrNull(bytes: Buffer): FileLine | null {
  try {
    return JSON.parse(bytes.toString('utf8')) as FileLine;
  } catch {
    // Its chunks are not last: it is read as a whole.
    return null;
  }
}

function known<Line extends ManifestLine>(line: Line, manifest: LinesOf): Line {
  if (line.t !== 'file' && line.t !== 'config' && line.t !== 'dir') {
    throw new AppError(
      'UNSUPPORTED',
      `unable to read backup '${manifest.backup.id}': a manifest line of type '${String((line as { t: unknown }).t)}' is not known`,
    );
  }
  checkRestorePath(line.p);
  return line;
}

export function damagedManifest(manifest: LinesOf, why: string, cause?: unknown): AppError {
  const details = { object: manifest.path };
  return new AppError('CORRUPT', `object '${manifest.path}' is damaged: ${why}`, { details, cause });
}
