import { AppError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import { chunksOf } from './chunk-list.ts';
import { backupsPrefix, isBackupId, manifestPath, packPath } from './layout.ts';
import type { BackupFacts, ManifestLine, PackFacts } from './manifest.ts';
import { damagedManifest, type PackedLine, parseLine } from './manifest-line.ts';
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
  const packs = object.footer['packs'] as readonly PackFacts[];
  if (!isHarmless(facts))
    throw damagedManifest(
      { path, backup: facts, packs },
      'its tablespaces could lead outside their directories',
    );
  return { path, backup: facts, packs, object };
}

/** Whether what names of directories are made of is no more than a name. */
function isHarmless({ tablespaceVersionDirectory, tablespaces }: BackupFacts): boolean {
  return (
    /^PG_\d+_\d+$/.test(tablespaceVersionDirectory) &&
    tablespaces.every(({ oid }) => Number.isInteger(oid) && oid > 0)
  );
}

/** The lines in their order, as {@link packedLines} reads them, with an array for each chunk. @throws CORRUPT UNSUPPORTED */
export async function* manifestLines(
  repository: Repository,
  manifest: Manifest,
  options: CallOptions = {},
): AsyncGenerator<ManifestLine, void, undefined> {
  for await (const line of packedLines(repository, manifest, options)) {
    if (line.t === 'dir') yield line;
    else {
      const { chunks, ...rest } = line;
      yield { ...rest, c: chunksOf(chunks) };
    }
  }
}

/** The lines in their order. Every path was checked: none leads outside the target directory. One may come twice in a hostile manifest, so files are only ever created, never opened again. @throws CORRUPT UNSUPPORTED */
export async function* packedLines(
  repository: Repository,
  manifest: Manifest,
  options: CallOptions = {},
): AsyncGenerator<PackedLine, void, undefined> {
  for await (const bytes of lineBytes(repository, manifest, options)) yield parseLine(bytes, manifest);
}

/** The lines as they are written, without their ends. @throws CORRUPT */
export async function* lineBytes(
  repository: Repository,
  manifest: Manifest,
  options: CallOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  /** Of a line that goes on in the next frame. */
  let begun: Buffer[] = [];
  for await (const bytes of frameBodies(repository.storage, manifest.object, options)) {
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    for (let end = body.indexOf('\n'); end >= 0; end = body.indexOf('\n', at)) {
      const piece = body.subarray(at, end);
      yield begun.length === 0 ? piece : Buffer.concat([...begun, piece]);
      begun = [];
      at = end + 1;
    }
    if (at < body.length) begun.push(body.subarray(at));
  }
  if (begun.length > 0) throw damagedManifest(manifest, 'its last line is cut off');
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
