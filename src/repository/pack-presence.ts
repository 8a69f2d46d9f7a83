import type { CallOptions } from '../storage/storage.ts';
import { packsPrefix } from './layout.ts';
import type { PackFacts } from './manifest.ts';
import { type Manifest, packPathOf } from './manifest-reader.ts';
import type { Repository } from './repository.ts';

/** A pack that a manifest names and that is not there as it was written. */
export interface AbsentPack {
  readonly pack: PackFacts;
  readonly path: string;
  /** `is missing`, or what it is instead. */
  readonly what: string;
}

/** The first pack that is missing or of another size; null when all are there. Asks for lists, not for each pack. */
export async function findAbsentPack(
  repository: Repository,
  manifest: Manifest,
  options: CallOptions = {},
): Promise<AbsentPack | null> {
  const sizes = new Map<string, number>();
  for (const backup of new Set(manifest.packs.map(pack => pack.backup))) {
    const prefix = packsPrefix(manifest.backup.instance, backup);
    for await (const { key, sizeBytes } of repository.storage.list(prefix, options))
      sizes.set(key, sizeBytes);
  }
  for (const pack of manifest.packs) {
    const path = packPathOf(manifest, pack);
    const found = sizes.get(path);
    if (found === pack.sizeBytes) continue;
    const what = found === undefined ? 'is missing' : `is ${found} bytes long, not ${pack.sizeBytes}`;
    return { pack, path, what };
  }
  return null;
}
