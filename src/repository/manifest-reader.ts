import { AppError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import { backupsPrefix, checkRestorePath, isBackupId, manifestPath, packPath } from './layout.ts';
import type { BackupFacts, ManifestLine, PackFacts } from './manifest.ts';
import type { Repository } from './repository.ts';
import { frameBodies, openSealed, type SealedObject } from './sealed-reader.ts';

/** An opened manifest: the facts at hand, the lines to be read as a stream. */
export interface Manifest {
  readonly path: string;
  readonly backup: BackupFacts;
  readonly packs: readonly PackFacts[];
  readonly object: SealedObject;
}

/** Null when there is no such backup. @throws CORRUPT, UNSUPPORTED, KEY_WRONG */
export async function openManifest(
  repository: Repository,
  backup: { readonly instance: string; readonly id: string },
  options: CallOptions = {},
): Promise<Manifest | null> {
  const path = manifestPath(backup.instance, backup.id);
  const object = await openSealed(
    repository.storage,
    { path, kind: 'manifest', keyring: repository.keyring },
    options,
  );
  if (object === null) return null;
  const facts = object.footer['backup'] as BackupFacts;
  if (facts.engine !== 'postgresql') {
    throw new AppError(
      'UNSUPPORTED',
      `unable to read backup '${backup.id}': engine '${String(facts.engine)}' is not known`,
    );
  }
  return { path, backup: facts, packs: object.footer['packs'] as readonly PackFacts[], object };
}

/** The lines in their order. Every path was checked: none leads outside the target directory. One may come twice in a hostile manifest, so files are only ever created, never opened again. @throws CORRUPT */
export async function* manifestLines(
  repository: Repository,
  manifest: Manifest,
  options: CallOptions = {},
): AsyncGenerator<ManifestLine, void, undefined> {
  let rest = '';
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for await (const body of frameBodies(repository.storage, manifest.object, options)) {
    const pieces = (rest + decodeText(decoder, body, manifest)).split('\n');
    rest = pieces.pop() ?? '';
    for (const piece of pieces) yield parseLine(piece, manifest);
  }
  if (rest + decodeText(decoder, null, manifest) !== '') throw damaged(manifest, 'its last line is cut off');
}

/** The ids of an instance's backups, oldest first. */
export async function listBackupIds(
  repository: Repository,
  instance: string,
  options: CallOptions = {},
): Promise<string[]> {
  const ids: string[] = [];
  const prefix = backupsPrefix(instance);
  for await (const { key } of repository.storage.list(prefix, options)) {
    const id = key.slice(prefix.length);
    if (isBackupId(id)) ids.push(id);
  }
  return ids.sort((a, b) => (a.slice(a.indexOf('_')) < b.slice(b.indexOf('_')) ? -1 : 1));
}

/** Where a pack that a manifest names lies. */
export function packPathOf(manifest: Manifest, pack: PackFacts): string {
  return packPath(manifest.backup.instance, pack.backup, pack.id);
}

/** The text of one more frame; null: there is none, and the last character must have been whole. */
function decodeText(decoder: TextDecoder, body: Uint8Array | null, manifest: Manifest): string {
  try {
    return body === null ? decoder.decode() : decoder.decode(body, { stream: true });
  } catch (error) {
    throw damaged(manifest, 'it is not in UTF-8', error);
  }
}

function parseLine(text: string, manifest: Manifest): ManifestLine {
  let line: ManifestLine;
  try {
    line = JSON.parse(text) as ManifestLine;
  } catch (error) {
    throw damaged(manifest, 'a line of it is not JSON', error);
  }
  if (line.t !== 'file' && line.t !== 'config' && line.t !== 'dir') {
    throw new AppError(
      'UNSUPPORTED',
      `unable to read backup '${manifest.backup.id}': a manifest line of type '${String((line as { t: unknown }).t)}' is not known`,
    );
  }
  checkRestorePath(line.p);
  if (line.t === 'dir') return line;
  let total = 0;
  for (const [length, pack, , , , raw, start] of line.c) {
    if (manifest.packs[pack] === undefined || start + length > raw || length < 0 || start < 0) {
      throw damaged(manifest, `file '${line.p}' refers to what is not there`);
    }
    total += length;
  }
  if (total !== line.s) throw damaged(manifest, `the chunks of file '${line.p}' are not its size`);
  return line;
}

function damaged(manifest: Manifest, why: string, cause?: unknown): AppError {
  const details = { object: manifest.path };
  return new AppError('CORRUPT', `object '${manifest.path}' is damaged: ${why}`, { details, cause });
}
