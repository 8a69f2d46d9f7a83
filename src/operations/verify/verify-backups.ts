import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { manifestPath } from '../../repository/layout.ts';
import type { PackFacts } from '../../repository/manifest.ts';
import {
  listBackupIds,
  type Manifest,
  manifestLines,
  openManifest,
  packPathOf,
} from '../../repository/manifest-reader.ts';
import { readSlots } from '../../repository/repository.ts';
import { findBackup } from '../backup/list-backups.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { batchTasks, progressTeller, startRestorePool } from '../restore/restore-files.ts';
import type { ObjectProblem } from '../restore/restore-protocol.ts';
import { neededFiles } from './needed-files.ts';
import { verifyLog } from './verify-log.ts';
import { isDamage, type VerifyProblem } from './verify-problem.ts';
import { verifyRecords } from './verify-records.ts';

export interface VerifyRequest {
  /** Null: every backup, the whole log, the keys. */
  readonly backupId: string | null;
}

export interface VerifyReport {
  readonly backups: readonly {
    readonly id: string;
    readonly packs: number;
    readonly bytes: number;
    readonly damaged: boolean;
  }[];
  readonly logFiles: number;
  readonly keySlots: number;
  /** Where the log has holes: the ranges in between cannot be reached. */
  readonly logGaps: readonly string[];
  readonly problems: readonly VerifyProblem[];
}

/**
 * Reads every byte of backups and log, and compares: each pack with the hash in its manifest, each frame with its own,
 * each log file with its footer. Goes on after damage, so that the report is complete.
 */
export async function verifyBackups(
  context: InstanceContext,
  request: VerifyRequest,
  options: RunOptions,
): Promise<VerifyReport> {
  const { repository, instance } = context;
  const { signal, onEvent } = options;
  const problems: VerifyProblem[] = [];
  const ids =
    request.backupId === null
      ? await listBackupIds(repository, instance, { signal })
      : [(await findBackup(context, request.backupId, signal)).backup.id];
  const backups: { id: string; packs: number; bytes: number; damaged: boolean }[] = [];
  const verified = new Map<string, readonly ObjectProblem[]>();
  const manifests: Manifest[] = [];
  for (const id of ids) {
    const found = await runStep(
      onEvent,
      {
        id: `verify-${id}`,
        title: `Backup ${id}`,
        detail: each =>
          each.problems.length === 0
            ? `${counted(each.packs, 'pack')}, every byte as written`
            : `${each.problems.length} problems`,
      },
      () => verifyOne(context, { id, verified }, options),
    );
    problems.push(...found.problems);
    backups.push({ id, packs: found.packs, bytes: found.bytes, damaged: found.problems.length > 0 });
    if (found.manifest !== null) manifests.push(found.manifest);
  }
  if (request.backupId !== null) return { backups, logFiles: 0, keySlots: 0, logGaps: [], problems };
  const keys = await runStep(
    onEvent,
    { id: 'verify-keys', title: 'Key slots', detail: each => `${each.slots}` },
    () => verifyKeys(context, signal),
  );
  const log = await runStep(
    onEvent,
    { id: 'verify-log', title: 'Log', detail: each => counted(each.files, 'file') },
    () => verifyLog(context, manifests, options),
  );
  return {
    backups,
    logFiles: log.files,
    keySlots: keys.slots,
    logGaps: log.gaps,
    problems: [
      ...problems,
      ...keys.problems,
      ...log.problems,
      ...(await verifyRecords(repository, instance, signal)),
    ],
  };
}

interface Verified {
  readonly manifest: Manifest | null;
  readonly packs: number;
  readonly bytes: number;
  readonly problems: readonly VerifyProblem[];
}

/**
 * Packs that were read in this run, by their path and what they must be, with what was found: an incremental backup
 * refers to those of others, which are read once, and named under every backup they damage.
 */
type VerifiedPacks = Map<string, readonly ObjectProblem[]>;

async function verifyOne(
  context: InstanceContext,
  { id, verified }: { readonly id: string; readonly verified: VerifiedPacks },
  options: RunOptions,
): Promise<Verified> {
  const { repository, instance } = context;
  const { signal } = options;
  const whole = `backup ${id} cannot be restored`;
  try {
    const manifest = await openManifest(repository, { instance, id }, { signal });
    if (manifest === null) return { manifest, packs: 0, bytes: 0, problems: [] };
    const found = await verifyPacks(context, { manifest, verified }, options);
    return {
      manifest,
      packs: manifest.packs.length,
      bytes: manifest.backup.storedBytes,
      problems: await withAffected(context, { manifest, found }, signal),
    };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return {
      manifest: null,
      packs: 0,
      bytes: 0,
      problems: [
        {
          object: String(error.details?.['object'] ?? manifestPath(instance, id)),
          message: error.message,
          affects: whole,
        },
      ],
    };
  }
}

async function verifyPacks(
  context: InstanceContext,
  { manifest, verified }: { readonly manifest: Manifest; readonly verified: VerifiedPacks },
  options: RunOptions,
): Promise<ObjectProblem[]> {
  const problems: ObjectProblem[] = [];
  const keyOf = (pack: PackFacts): string => `${packPathOf(manifest, pack)} ${pack.sizeBytes} ${pack.sha256}`;
  const isNew = (pack: PackFacts): boolean => !verified.has(keyOf(pack));
  const total = manifest.packs.filter(isNew).reduce((sum, pack) => sum + pack.sizeBytes, 0);
  const onProgress = progressTeller(`verify-${manifest.backup.id}`, total, options.onEvent);
  const pool = startRestorePool(
    { ...context, manifest },
    message => {
      if (message.type === 'progress') onProgress(message.bytes);
      else problems.push(...message.problems);
    },
    options.signal,
  );
  try {
    const batches = batchTasks(pool);
    for (const [pack, facts] of manifest.packs.entries()) {
      if (!isNew(facts)) continue;
      await batches.add(
        { kind: 'pack', pack, sha256: facts.sha256, sizeBytes: facts.sizeBytes },
        facts.sizeBytes,
      );
    }
    await batches.flush();
    await pool.finish({ tasks: [] });
  } finally {
    await pool.terminate();
  }
  return manifest.packs.flatMap(pack => {
    const path = packPathOf(manifest, pack);
    const found = verified.get(keyOf(pack)) ?? problems.filter(each => each.object === path);
    verified.set(keyOf(pack), found);
    return found;
  });
}

/**
 * Reads the manifest to its end, which checks it; tells for each damaged pack which files are in it, and which files are not
 * there at all, though nothing can be restored without them.
 */
async function withAffected(
  context: InstanceContext,
  damage: { readonly manifest: Manifest; readonly found: readonly ObjectProblem[] },
  signal: AbortSignal,
): Promise<VerifyProblem[]> {
  const { manifest, found } = damage;
  const paths = manifest.packs.map(pack => packPathOf(manifest, pack));
  const files = new Map<string, { count: number; first: string }>();
  const needed = new Map(neededFiles(manifest.backup));
  for await (const line of manifestLines(context.repository, manifest, { signal })) {
    if (line.t === 'file' && (needed.get(line.p) ?? line.s) === line.s) needed.delete(line.p);
    if (line.t === 'dir' || found.length === 0) continue;
    for (const pack of new Set(line.c.map(chunk => chunk[1]))) {
      const path = paths[pack] ?? '';
      const known = files.get(path);
      if (known === undefined) files.set(path, { count: 1, first: line.p });
      else known.count += 1;
    }
  }
  const absent = [...needed.keys()].map(path => ({
    object: manifest.path,
    message: `object '${manifest.path}' names no whole file '${path}'`,
    affects: `backup ${manifest.backup.id} cannot be restored`,
  }));
  const damaged = found.map(({ object, message }) => {
    const affected = files.get(object);
    return {
      object,
      message,
      affects:
        affected === undefined
          ? `backup ${manifest.backup.id}`
          : `backup ${manifest.backup.id}: ${affected.count} files, ${affected.first} among them`,
    };
  });
  return [...absent, ...damaged];
}

async function verifyKeys(
  context: InstanceContext,
  signal: AbortSignal,
): Promise<{ readonly slots: number; readonly problems: readonly VerifyProblem[] }> {
  const { slots, problems } = await readSlots(context.repository.storage, { signal });
  return {
    slots: slots.length,
    problems: problems.map(problem => ({
      object: String(problem.details?.['object'] ?? 'key slot'),
      message: problem.message,
      affects: 'whoever has only this passphrase or key file cannot open the repository',
    })),
  };
}
