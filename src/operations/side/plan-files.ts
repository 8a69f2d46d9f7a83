import { AppError } from '../../base/errors.ts';
import { formatBytes } from '../../base/sizes.ts';
import type { CatalogSnapshot } from '../../engines/postgres/catalog-snapshot.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { manifestLines } from '../../repository/manifest-reader.ts';
import { catalogAt } from '../catalog/catalog-at.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogActivity, readActivity } from '../log/log-summaries.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { neededSize } from '../restore/restore-files.ts';
import { type FileSelection, selectFiles, type WantedPages } from './select-files.ts';

/** How much of a backup a side instance is made from. */
export interface RestoredPart {
  readonly bytes: number;
  /** Of all its files. */
  readonly ofBytes: number;
  /** Why all of it is restored; null where only what is needed is. */
  readonly whyAll: string | null;
}

/** The files of a side instance. */
export interface SideFiles extends RestoredPart {
  /** Null: all of the backup. */
  readonly selection: FileSelection | null;
}

export type SideContext = Pick<InstanceContext, 'repository'>;

/**
 * Finds out which pages of a plan's backup a side instance needs, and how many bytes they are. Where that cannot be said for
 * certain, all of them are.
 *
 * @param wanted.to the log is replayed no further than this
 */
export async function planSideFiles(
  context: SideContext,
  plan: RecoveryPlan,
  wanted: { readonly pages: readonly WantedPages[]; readonly to: bigint },
  signal: AbortSignal,
): Promise<SideFiles> {
  const { backup, view, manifest } = plan;
  const catalog = await catalogAt(context, view, { lsn: parseLsn(backup.stopLsn), signal });
  if (catalog === null) return allFiles(plan, 'no catalog says what its files belong to');
  const databases = new Set(wanted.pages.map(({ relation }) => relation.database));
  const created = await databasesCreated(context, plan, wanted.to, signal);
  if (created === null) return allFiles(plan, 'its log cannot be read to the end');
  // Files that are copied come under the same numbers from another database: which they are, only their content says.
  if (created.some(each => each.source !== null && databases.has(each.database)))
    return allFiles(plan, 'the database was made by a copy of files since');
  // Any of them may be what sessions are opened in that belong to no database.
  const connected = created.length > 0 ? null : new Set([...databases, ...maintenanceDatabases(catalog)]);
  const selection = selectFiles(catalog, { wanted: wanted.pages, connected }, backup);
  let bytes = 0;
  let ofBytes = 0;
  for await (const line of manifestLines(context.repository, manifest, { signal })) {
    if (line.t !== 'file') continue;
    ofBytes += line.s;
    bytes += neededSize(line, selection.needs(line.p));
  }
  return { selection, bytes, ofBytes, whyAll: null };
}

export function allFiles({ backupBytes }: Pick<RecoveryPlan, 'backupBytes'>, whyAll: string): SideFiles {
  return { selection: null, bytes: backupBytes, ofBytes: backupBytes, whyAll };
}

/** @source catalog/pg_database.dat, template1; an isolated server is asked there */
const MAINTENANCE = { oid: 1, name: 'template1' } as const;

function maintenanceDatabases({ databases }: Pick<CatalogSnapshot, 'databases'>): number[] {
  const named = databases.filter(each => each.name === MAINTENANCE.name).map(each => each.oid);
  return [MAINTENANCE.oid, ...named];
}

/** Null: the log that will be replayed cannot be read. */
async function databasesCreated(
  context: SideContext,
  { backup, view }: RecoveryPlan,
  to: bigint,
  signal: AbortSignal,
): Promise<LogActivity['databasesCreated'] | null> {
  const range = { from: parseLsn(backup.startLsn), to };
  try {
    const activity = await readActivity(context, view, range, { signal, keep: () => false });
    return activity.to < to ? null : activity.databasesCreated;
  } catch (error) {
    if (error instanceof AppError && ['LOG_NOT_FOUND', 'CORRUPT'].includes(error.code)) return null;
    throw error;
  }
}

/** `12.3 MB of 9.1 GB`, or `9.1 GB, all of it, as …`. */
export function describePart({ bytes, ofBytes, whyAll }: RestoredPart): string {
  if (whyAll === null) return `${formatBytes(bytes)} of ${formatBytes(ofBytes)}`;
  return `${formatBytes(ofBytes)}, all of it, as ${whyAll}`;
}
