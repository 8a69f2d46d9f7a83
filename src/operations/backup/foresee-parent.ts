import type { BackupType } from '../../repository/manifest.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { openParentFiles, type ParentFiles } from './parent-files.ts';

/** The backup that is going to be the parent, most likely, and what it has: read while the server writes its checkpoint. */
export interface ForeseenParent extends AsyncDisposable {
  /** Its manifest; null when `id` is not the one that was foreseen, or it could not be read. */
  manifestOf(id: string): Promise<Manifest | null>;
  /** Its files, which are the caller's to close from then on; null as above. */
  filesOf(id: string): Promise<ParentFiles | null>;
}

/** Begins to read; whatever is in the way is left to who reads it again. */
export function foreseeParent(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  type: Exclude<BackupType, 'full'>,
  signal: AbortSignal,
): ForeseenParent {
  const manifest = newest(context, type, signal).catch(() => null);
  const files = manifest
    .then(found => (found === null ? null : openParentFiles(context.repository, found, signal)))
    .catch(() => null);
  let isTaken = false;
  const has = async (id: string): Promise<boolean> => (await manifest)?.backup.id === id;
  return {
    manifestOf: async id => ((await has(id)) ? await manifest : null),
    async filesOf(id) {
      if (isTaken || !(await has(id))) return null;
      isTaken = true;
      return await files;
    },
    async [Symbol.asyncDispose]() {
      if (!isTaken) await (await files)?.close();
    },
  };
}

async function newest(
  { instance, repository }: Pick<InstanceContext, 'instance' | 'repository'>,
  type: Exclude<BackupType, 'full'>,
  signal: AbortSignal,
): Promise<Manifest | null> {
  for (const id of (await listBackupIds(repository, instance, { signal })).reverse()) {
    const manifest = await openManifest(repository, { instance, id }, { signal });
    if (type === 'incremental' || manifest?.backup.type === 'full') return manifest;
  }
  return null;
}
