import { formatLsn, parseLsn } from '../../engines/postgres/lsn.ts';
import type { ServerFacts } from '../../engines/postgres/server-facts.ts';
import type { BackupFacts, BackupType } from '../../repository/manifest.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import { findAbsentPack } from '../../repository/pack-presence.ts';
import type { Repository } from '../../repository/repository.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { BegunChanges } from '../log/log-summaries.ts';
import { type LogView, openLogView } from '../log/log-view.ts';
import { isDamage } from '../verify/verify-problem.ts';
import type { ParentFiles } from './parent-files.ts';

/** The server as it is now, as far as it decides what a new backup may refer to. */
export type PresentServer = Pick<
  ServerFacts,
  | 'systemIdentifier'
  | 'timeline'
  | 'startTime'
  | 'blockSize'
  | 'relationSegmentBlocks'
  | 'walSegmentSize'
  | 'tablespaceVersionDirectory'
  | 'dataChecksums'
  | 'walLogHints'
> & {
  /** What it has written by now. */
  readonly lsn: bigint;
};

export type ChosenParent =
  | {
      readonly parent: Manifest;
      readonly view: LogView;
      /** Why newer backups were passed over. */
      readonly passedOver: string | null;
    }
  | { readonly parent: null; readonly reason: string };

/** A backup that was read before it was chosen. Each of its parts is null when another one is, or it could not be read. */
export interface ForeseenParent extends AsyncDisposable {
  manifestOf(id: string): Promise<Manifest | null>;
  /** Handed out once: they are the caller's to close. */
  filesOf(id: string): Promise<ParentFiles | null>;
  /** What changed since on a timeline, as far as it was archived; handed out once. */
  changesOf(id: string, timeline: number): Promise<BegunChanges | null>;
}

type Context = Pick<InstanceContext, 'instance' | 'repository'>;

/**
 * The backup that a differential or incremental one can refer to: the newest (full) one of this system whose every change
 * is part of the server's present history. When in doubt there is none, and the reason says why.
 */
export async function chooseParent(
  context: Context,
  wanted: {
    readonly type: Exclude<BackupType, 'full'>;
    readonly server: PresentServer;
    readonly foreseen?: ForeseenParent | null;
  },
  signal: AbortSignal,
): Promise<ChosenParent> {
  const { repository, instance } = context;
  const { type, server, foreseen = null } = wanted;
  const ids = (await listBackupIds(repository, instance, { signal })).reverse();
  let reason: string | null = null;
  for (const id of ids) {
    const manifest =
      (await foreseen?.manifestOf(id)) ?? (await openOrNull(repository, { instance, id }, signal));
    if (manifest === null) {
      reason ??= `backup ${id} is damaged`;
      continue;
    }
    if (type === 'differential' && manifest.backup.type !== 'full') continue;
    const view = await viewOf(context, manifest.backup, server, signal);
    const against = typeof view === 'string' ? view : whyNoAncestor(manifest.backup, server, view);
    if (typeof view === 'string' || against !== null) {
      // An older backup may still lie on this server's way.
      reason ??= against;
      continue;
    }
    const damage = await whyNotWhole(repository, manifest, signal);
    // Going on from an older one would leave the damage as it is; a full backup does not need what is lost.
    if (damage !== null) return { parent: null, reason: damage };
    return { parent: manifest, view, passedOver: reason };
  }
  return { parent: null, reason: reason ?? noneYet(type) };
}

function noneYet(type: BackupType): string {
  return type === 'differential' ? 'there is no full backup yet' : 'there is no backup yet';
}

async function openOrNull(
  repository: Repository,
  backup: { readonly instance: string; readonly id: string },
  signal: AbortSignal,
): Promise<Manifest | null> {
  try {
    return await openManifest(repository, backup, { signal });
  } catch (error) {
    if (isDamage(error)) return null;
    throw error;
  }
}

/** The archived log along the server's timeline, or why there is none. */
export async function viewOf(
  { repository, instance }: Context,
  backup: BackupFacts,
  server: Pick<PresentServer, 'systemIdentifier' | 'timeline' | 'walSegmentSize'>,
  signal: AbortSignal,
): Promise<LogView | string> {
  const { systemIdentifier, timeline, walSegmentSize: segmentSize } = server;
  const source = {
    owner: { instance, systemIdentifier },
    segmentSize,
    timeline,
    backupTimelines: [backup.timeline],
  };
  try {
    return await openLogView(repository, source, signal);
  } catch (error) {
    if (isDamage(error) || (error as { code?: unknown }).code === 'LOG_NOT_FOUND')
      return `it is not known where timeline ${timeline} of the server began`;
    throw error;
  }
}

/** Why a backup's content may not be part of what the server is now; null when it is. */
function whyNoAncestor(backup: BackupFacts, server: PresentServer, view: LogView): string | null {
  const { id } = backup;
  if (backup.systemIdentifier !== server.systemIdentifier)
    return `backup ${id} is of another database system`;
  if (backup.tablespaceVersionDirectory !== server.tablespaceVersionDirectory)
    return `backup ${id} is of another version of PostgreSQL`;
  if (backup.blockSize !== server.blockSize || backup.relationSegmentBlocks !== server.relationSegmentBlocks)
    return `backup ${id} has pages or files of another size`;
  if (backup.walSegmentSize !== server.walSegmentSize)
    return `backup ${id} was made with log segments of another size`;
  if (backup.pageChecksums !== server.dataChecksums)
    return `page checksums were turned ${server.dataChecksums ? 'on' : 'off'} since backup ${id}`;
  const stop = parseLsn(backup.stopLsn);
  const index = view.chain.findIndex(step => step.timeline === backup.timeline);
  if (index < 0)
    return `the server was restored since backup ${id}, which is of timeline ${backup.timeline}: it is not part of timeline ${server.timeline}`;
  const left = view.chain[index + 1]?.begin;
  if (left !== undefined && stop > left)
    return `the server was restored to ${formatLsn(left)} since, and backup ${id} ends behind that`;
  if (stop > server.lsn)
    return `the server is at ${formatLsn(server.lsn)}, before the end of backup ${id}: it was put back to an older state`;
  return null;
}

/** Why a new backup cannot rely on what a parent refers to. */
async function whyNotWhole(
  repository: Repository,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<string | null> {
  const { backup } = manifest;
  if (backup.damagedPages.length > 0)
    return `backup ${backup.id} has pages that were damaged on the server's disk`;
  const absent = await findAbsentPack(repository, manifest, { signal });
  if (absent !== null) return `backup ${backup.id} is damaged: object '${absent.path}' ${absent.what}`;
  const sealed = manifest.packs.find(pack => !hasKey(repository, pack.generation));
  return sealed === undefined
    ? null
    : `backup ${backup.id} needs key generation ${sealed.generation}, which does not open here`;
}

function hasKey(repository: Repository, generation: number): boolean {
  try {
    return repository.keyring.key(generation).length > 0;
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}
