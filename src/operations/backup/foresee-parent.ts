import { parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { BackupType } from '../../repository/manifest.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type BegunChanges, beginChanges } from '../log/log-summaries.ts';
import { type ForeseenParent, type PresentServer, viewOf } from './choose-parent.ts';
import { liveFrom } from './find-changes.ts';
import { openParentFiles } from './parent-files.ts';

type Context = Pick<InstanceContext, 'instance' | 'repository'>;
type Server = Pick<PresentServer, 'systemIdentifier' | 'timeline' | 'walSegmentSize'>;

/**
 * Begins to read the backup that is most likely going to be the parent, and the log since: while the server writes its
 * checkpoint there is nothing else to do. Whatever is in the way is left to who reads it again.
 */
export function foreseeParent(
  context: Context,
  wanted: { readonly type: Exclude<BackupType, 'full'>; readonly server: Server },
  signal: AbortSignal,
): ForeseenParent {
  const { type, server } = wanted;
  const manifest = newest(context, type, signal).catch(() => null);
  const filesRead = manifest
    .then(found => (found === null ? null : openParentFiles(context.repository, found, signal)))
    .catch(() => null);
  const changesRead = manifest
    .then(found => (found === null ? null : beginLog(context, { manifest: found, server }, signal)))
    .catch(() => null);
  let files: typeof filesRead | null = filesRead;
  let changes: typeof changesRead | null = changesRead;
  const has = async (id: string): Promise<boolean> => (await manifest)?.backup.id === id;
  return {
    manifestOf: async id => ((await has(id)) ? await manifest : null),
    async filesOf(id) {
      if (!(await has(id))) return null;
      const taken = files;
      files = null;
      return await taken;
    },
    async changesOf(id, timeline) {
      if (timeline !== server.timeline || !(await has(id))) return null;
      const taken = changes;
      changes = null;
      return await taken;
    },
    async [Symbol.asyncDispose]() {
      await (await files)?.close();
    },
  };
}

async function newest(
  { instance, repository }: Context,
  type: Exclude<BackupType, 'full'>,
  signal: AbortSignal,
): Promise<Manifest | null> {
  for (const id of (await listBackupIds(repository, instance, { signal })).reverse()) {
    const manifest = await openManifest(repository, { instance, id }, { signal });
    if (type === 'incremental' || manifest?.backup.type === 'full') return manifest;
  }
  return null;
}

/** The log since a parent's start, as far as it is archived whole. */
async function beginLog(
  context: Context,
  { manifest: { backup }, server }: { readonly manifest: Manifest; readonly server: Server },
  signal: AbortSignal,
): Promise<BegunChanges | null> {
  if (backup.systemIdentifier !== server.systemIdentifier) return null;
  const view = await viewOf(context, backup, server, signal);
  if (typeof view === 'string') return null;
  const from = parseLsn(backup.startLsn);
  const upTo = liveFrom(view, backup);
  return upTo > segmentStart(from, view.segmentSize)
    ? await beginChanges(context, view, { from, upTo, target: null }, signal)
    : null;
}
