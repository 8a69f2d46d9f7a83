import { formatBytes } from '../../base/sizes.ts';
import type { DataFileEntry } from '../../engines/postgres/data-files.ts';
import type { BackupType } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type Changes, changedFiles } from './changed-files.ts';
import { chooseParent, type ForeseenParent, type PresentServer } from './choose-parent.ts';
import type { SourceFile } from './file-assembler.ts';
import { findChanges } from './find-changes.ts';
import { openParentFiles } from './parent-files.ts';

/** A parent, and what changed since. */
export interface Increment extends AsyncDisposable {
  readonly type: Exclude<BackupType, 'full'>;
  readonly parent: Manifest;
  readonly changes: Changes;
  /** Why pages are asked for their positions instead of the log; null: the log was read. */
  readonly why: string | null;
  /** Why newer backups are not the parent. */
  readonly passedOver: string | null;
  /** What is going to be read of the files, about; null: all of them. */
  readonly readBytes: number | null;
  /** What of a file is to be read, and what the parent has of it. */
  changesOf(entry: DataFileEntry, source: SourceFile): Promise<SourceFile>;
}

export type OpenedIncrement = { readonly increment: Increment } | { readonly reason: string };

/** Finds the parent of a differential or incremental backup, and what changed since its start; or why there must be a full one. */
export async function openIncrement(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  wanted: {
    readonly type: Exclude<BackupType, 'full'>;
    readonly server: PresentServer;
    readonly dataDirectory: string;
    /** What was read already; left out: nothing. */
    readonly foreseen?: ForeseenParent | null;
  },
  signal: AbortSignal,
): Promise<OpenedIncrement> {
  const { type, server, dataDirectory, foreseen = null } = wanted;
  const chosen = await chooseParent(context, { type, server, foreseen }, signal);
  if (chosen.parent === null) return { reason: chosen.reason };
  const { parent, view, passedOver } = chosen;
  const { id } = parent.backup;
  const begun = (await foreseen?.changesOf(id, server.timeline)) ?? null;
  const question = { parent: parent.backup, server, view, dataDirectory, begun };
  const { changes, why } = await findChanges(context, question, signal);
  if (changes === null) return { reason: why };
  const files = (await foreseen?.filesOf(id)) ?? (await openParentFiles(context.repository, parent, signal));
  const changesOf = changedFiles({
    parent: files,
    changes,
    blockSize: server.blockSize,
    relationSegmentBlocks: server.relationSegmentBlocks,
  });
  const readBytes = changes.by === 'log' ? changedBytes(changes, server.blockSize) : null;
  return {
    increment: {
      ...{ type, parent, changes, why, passedOver, readBytes, changesOf },
      [Symbol.asyncDispose]: () => files.close(),
    },
  };
}

/** In a few words, for the step. */
export function describeIncrement(opened: OpenedIncrement): string {
  if ('reason' in opened) return 'not certain';
  const { parent, changes, readBytes } = opened.increment;
  const since = `since ${parent.backup.id}`;
  return changes.by === 'log'
    ? `${formatBytes(readBytes ?? 0)} of pages in the log ${since}`
    : `by the position of each page, ${since}`;
}

function changedBytes(changes: Extract<Changes, { by: 'log' }>, blockSize: number): number {
  let blocks = 0;
  for (const { fork, blocks: named } of changes.map.forks.values()) if (fork === 0) blocks += named.length;
  return blocks * blockSize;
}
