import { closeSync, openSync, readSync } from 'node:fs';
import { delay } from '../../base/abort.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { connect } from '../../engines/postgres/connection.ts';
import { listDataFiles } from '../../engines/postgres/data-files.ts';
import { checkDatabases, type DatabaseChecks } from '../../engines/postgres/database-checks.ts';
import { createPageChecker } from '../../engines/postgres/page-checksum.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { progressTeller } from '../restore/restore-files.ts';
import type { PageVerification } from '../verify/verify-pages.ts';
import { livePlace, type Places } from './places.ts';
import { rewindPool } from './rewind-pool.ts';

/** How long each kind of check may take while people work with the instance. */
export const CHECK_BUDGET_MS = 30_000;
/** A page that is being written while it is read looks damaged, for a moment. */
const LOOKS = 10;
const BETWEEN_LOOKS_MS = 100;

export interface OpenVerification {
  readonly checks: DatabaseChecks;
  /** Null when the instance has no page checksums. */
  readonly pages: PageVerification | null;
}

/**
 * Verifies a rewound instance that is open: the checksums of all pages, also of those that no record of the log has named
 * and the rewind has trusted; then indexes, tables, foreign keys and row counts, as far as a short time goes.
 */
export async function verifyOpen(
  context: InstanceContext,
  from: { readonly places: Places; readonly manifest: Manifest },
  options: RunOptions,
): Promise<OpenVerification> {
  const { signal, onEvent } = options;
  const pages = from.manifest.backup.pageChecksums ? await verifyAllPages(context, from, options) : null;
  const checks = await checkDatabases({
    connect: database => connect(context.connection, { database, signal }),
    budgetMs: {
      indexes: CHECK_BUDGET_MS,
      tables: CHECK_BUDGET_MS,
      foreignKeys: CHECK_BUDGET_MS,
      rows: CHECK_BUDGET_MS,
    },
    onEvent,
    signal,
  });
  return { checks, pages };
}

/** The checksums of every page; the server may run. A page counts as damaged only when it stays so. */
export async function verifyAllPages(
  context: InstanceContext,
  from: { readonly places: Places; readonly manifest: Manifest },
  options: RunOptions,
): Promise<PageVerification> {
  const { places, manifest } = from;
  const { backup } = manifest;
  return await runStep(
    options.onEvent,
    {
      id: 'all-pages',
      title: 'Page checksums',
      detail: found => `${counted(found.pages, 'page')}, ${found.damaged.length} wrong`,
    },
    async () => {
      const onProgress = progressTeller('all-pages', backup.sizeBytes, options.onEvent);
      const pool = rewindPool(context, { manifest, places }, { ...options, onProgress });
      let files = 0;
      try {
        const listing = { ...backup, signal: options.signal };
        for await (const entry of listDataFiles(places.dataDirectory, listing)) {
          if (entry.kind !== 'file' || entry.relation === null) continue;
          files += 1;
          const { path, source, sizeBytes, relation } = entry;
          const task = { path, source, firstBlock: relation.firstBlock, ranges: null };
          await pool.add({ kind: 'check', ...task }, sizeBytes);
        }
        const { checkedPages, damaged } = await pool.finish();
        return { pages: checkedPages, files, damaged: await lookAgain(damaged, from, options.signal) };
      } catch (error) {
        await pool.terminate();
        throw error;
      }
    },
  );
}

/** Those whose checksum is still wrong. */
async function lookAgain(
  suspects: readonly DamagedPage[],
  from: { readonly places: Places; readonly manifest: Manifest },
  signal: AbortSignal,
): Promise<DamagedPage[]> {
  const { blockSize, relationSegmentBlocks } = from.manifest.backup;
  const checker = createPageChecker(blockSize, blockSize);
  let left = [...suspects];
  for (let look = 0; look < LOOKS && left.length > 0; look += 1) {
    await delay(BETWEEN_LOOKS_MS, signal);
    left = left.filter(page => {
      const position = (page.block % relationSegmentBlocks) * blockSize;
      if (!readPage(livePlace(from.places, page.path), checker.buffer, position)) return false;
      return checker.check(blockSize, page.block).length > 0;
    });
  }
  return left;
}

/** @returns false when it is not there any more */
function readPage(path: string, into: Uint8Array, position: number): boolean {
  try {
    const file = openSync(path, 'r');
    try {
      return readSync(file, into, 0, into.length, position) === into.length;
    } finally {
      closeSync(file);
    }
  } catch {
    // Dropped since.
    return false;
  }
}
