import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { relationOf } from '../../engines/postgres/data-files-names.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { uniteRanges } from '../backup/ranges.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { progressTeller } from '../restore/restore-files.ts';
import type { RewindWork } from './decide-work.ts';
import { livePlace, type Places } from './places.ts';
import { rewindPool } from './rewind-pool.ts';
import type { SavedState } from './saved-state.ts';
import { listServerFiles } from './server-files.ts';

export interface TouchedPages {
  readonly pages: number;
  readonly files: number;
}

/**
 * Compares the checksums of every page that the rewind or the replay has written: those named by the log, files made anew,
 * and files that only the replay has made. Null where the instance has no page checksums.
 *
 * @throws VERIFICATION_FAILED
 */
export async function checkTouched(
  run: {
    readonly context: InstanceContext;
    readonly manifest: Manifest;
    readonly state: SavedState;
    readonly work: RewindWork;
  },
  places: Places,
  options: RunOptions,
): Promise<TouchedPages | null> {
  const { context, manifest, work } = run;
  const { backup } = manifest;
  if (!backup.pageChecksums) return null;
  return await runStep(
    options.onEvent,
    {
      id: 'pages',
      title: 'Checksums of the pages changed',
      detail: found => `${counted(found.pages, 'page')} in ${counted(found.files, 'file')}`,
    },
    async () => {
      const onProgress = progressTeller('pages', 0, options.onEvent);
      const pool = rewindPool(context, { manifest, places }, { ...options, onProgress });
      const patched = patchedRanges(run);
      let files = 0;
      try {
        const { files: found } = listServerFiles(places, backup.tablespaceVersionDirectory);
        for (const [path, { sizeBytes }] of found) {
          const relation = relationOf(path, backup.relationSegmentBlocks);
          if (relation === null || work.untouched.has(path)) continue;
          files += 1;
          const ranges = patched.get(path) ?? null;
          const task = { path, source: livePlace(places, path), firstBlock: relation.firstBlock, ranges };
          await pool.add({ kind: 'check', ...task }, sizeBytes);
        }
        const { checkedPages, damaged } = await pool.finish();
        refuseDamage(damaged, backup.damagedPages);
        return { pages: checkedPages, files };
      } catch (error) {
        await pool.terminate();
        throw error;
      }
    },
  );
}

/** What is written of patched files, by the rewind or by the replay, which may make them longer; of others, all is. */
function patchedRanges(run: {
  readonly state: SavedState;
  readonly work: RewindWork;
}): ReadonlyMap<string, readonly number[]> {
  const patched = new Map<string, readonly number[]>();
  for (const { path, sizeBytes, work } of run.work.items) {
    if (work.kind !== 'patch') continue;
    const end = Math.min(sizeBytes, run.state.live.files.get(path)?.sizeBytes ?? 0);
    const behind = [end, Number.MAX_SAFE_INTEGER - end];
    patched.set(path, uniteRanges(uniteRanges(work.changed, work.fromBase), behind));
  }
  return patched;
}

function refuseDamage(damaged: readonly DamagedPage[], known: readonly DamagedPage[]): void {
  const names = new Set(known.map(page => `${page.path} ${page.block}`));
  const found = damaged.filter(page => !names.has(`${page.path} ${page.block}`));
  const [first] = found;
  if (first === undefined) return;
  throw new AppError(
    'VERIFICATION_FAILED',
    `the rewound database is damaged: block ${first.block} of ${first.path} has a wrong checksum${found.length > 1 ? `, and ${found.length - 1} more` : ''}`,
    { details: { pages: found.slice(0, 100) } },
  );
}
