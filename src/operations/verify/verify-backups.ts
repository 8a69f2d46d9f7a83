import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
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
import { openLogView } from '../log/log-view.ts';
import { batchTasks, progressTeller, startRestorePool } from '../restore/restore-files.ts';
import type { ObjectProblem } from '../restore/restore-protocol.ts';

export interface VerifyRequest {
  /** Null: every backup, the whole log, the keys. */
  readonly backupId: string | null;
}

/** A damaged or missing object, and what cannot be restored because of it. */
export interface VerifyProblem {
  readonly object: string;
  readonly message: string;
  readonly affects: string;
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
  const manifests: Manifest[] = [];
  for (const id of ids) {
    const found = await runStep(
      onEvent,
      {
        id: `verify-${id}`,
        title: `Backup ${id}`,
        detail: each =>
          each.problems.length === 0
            ? `${each.packs} packs, every byte as written`
            : `${each.problems.length} problems`,
      },
      () => verifyOne(context, id, options),
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
    { id: 'verify-log', title: 'Log', detail: each => `${each.files} files` },
    () => verifyLog(context, manifests, options),
  );
  return {
    backups,
    logFiles: log.files,
    keySlots: keys.slots,
    logGaps: log.gaps,
    problems: [...problems, ...keys.problems, ...log.problems],
  };
}

interface Verified {
  readonly manifest: Manifest | null;
  readonly packs: number;
  readonly bytes: number;
  readonly problems: readonly VerifyProblem[];
}

async function verifyOne(context: InstanceContext, id: string, options: RunOptions): Promise<Verified> {
  const { repository, instance } = context;
  const { signal } = options;
  const whole = `backup ${id} cannot be restored`;
  try {
    const manifest = await openManifest(repository, { instance, id }, { signal });
    if (manifest === null) return { manifest, packs: 0, bytes: 0, problems: [] };
    const found = await verifyPacks(context, manifest, options);
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
      problems: [{ object: String(error.details?.['object'] ?? id), message: error.message, affects: whole }],
    };
  }
}

async function verifyPacks(
  context: InstanceContext,
  manifest: Manifest,
  options: RunOptions,
): Promise<ObjectProblem[]> {
  const problems: ObjectProblem[] = [];
  const total = manifest.packs.reduce((sum, pack) => sum + pack.sizeBytes, 0);
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
  return problems;
}

/** Reads the manifest to its end, which checks it, and tells for each damaged pack which files are in it. */
async function withAffected(
  context: InstanceContext,
  damage: { readonly manifest: Manifest; readonly found: readonly ObjectProblem[] },
  signal: AbortSignal,
): Promise<VerifyProblem[]> {
  const { manifest, found } = damage;
  const paths = manifest.packs.map(pack => packPathOf(manifest, pack));
  const files = new Map<string, { count: number; first: string }>();
  for await (const line of manifestLines(context.repository, manifest, { signal })) {
    if (line.t === 'dir' || found.length === 0) continue;
    for (const pack of new Set(line.c.map(chunk => chunk[1]))) {
      const path = paths[pack] ?? '';
      const known = files.get(path);
      if (known === undefined) files.set(path, { count: 1, first: line.p });
      else known.count += 1;
    }
  }
  return found.map(({ object, message }) => {
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

async function verifyLog(
  context: InstanceContext,
  manifests: readonly Manifest[],
  options: RunOptions,
): Promise<{
  readonly files: number;
  readonly gaps: readonly string[];
  readonly problems: readonly VerifyProblem[];
}> {
  const problems: VerifyProblem[] = [];
  const gaps: string[] = [];
  let files = 0;
  for (const owner of await logOwners(context, problems, options.signal)) {
    const own = manifests.filter(each => each.backup.systemIdentifier === owner.systemIdentifier);
    const newest = own.at(-1);
    // Log without any backup is of no use to anyone: nothing can be restored with it.
    if (newest === undefined) continue;
    const found = await verifyLogFiles(context, { owner, manifest: newest }, options);
    files += found.files;
    problems.push(...found.problems);
    gaps.push(...(await findGaps(context, owner, own, options.signal)));
  }
  return { files, gaps, problems };
}

async function logOwners(
  context: InstanceContext,
  problems: VerifyProblem[],
  signal: AbortSignal,
): Promise<LogOwner[]> {
  const { repository, instance } = context;
  try {
    return (await readIdentities(repository, instance, { signal })).map(({ systemIdentifier }) => ({
      instance,
      systemIdentifier,
    }));
  } catch (error) {
    if (!isDamage(error)) throw error;
    problems.push({
      object: String(error.details?.['object'] ?? 'identity'),
      message: error.message,
      affects: `archiving of instance ${instance}`,
    });
    return [];
  }
}

async function verifyLogFiles(
  context: InstanceContext,
  log: { readonly owner: LogOwner; readonly manifest: Manifest },
  options: RunOptions,
): Promise<{ readonly files: number; readonly problems: readonly VerifyProblem[] }> {
  const problems: VerifyProblem[] = [];
  let files = 0;
  const pool = startRestorePool(
    { ...context, manifest: log.manifest },
    message => {
      if (message.type !== 'batch') return;
      for (const { object, message: text } of message.problems)
        problems.push({ object, message: text, affects: 'points in time after this position' });
    },
    options.signal,
  );
  try {
    const batches = batchTasks(pool);
    for await (const file of listLogFiles(context.repository, log.owner, {}, { signal: options.signal })) {
      files += 1;
      await batches.add({ kind: 'log-check', name: file.name }, log.manifest.backup.walSegmentSize);
    }
    await batches.flush();
    await pool.finish({ tasks: [] });
  } finally {
    await pool.terminate();
  }
  return { files, problems };
}

/** Follows the newest timeline from the oldest backup's start; each hole before its end is a gap. */
async function findGaps(
  context: InstanceContext,
  owner: LogOwner,
  manifests: readonly Manifest[],
  signal: AbortSignal,
): Promise<string[]> {
  const oldest = manifests.find(each => !each.backup.logIncluded) ?? manifests[0];
  if (oldest === undefined) return [];
  const segmentSize = oldest.backup.walSegmentSize;
  const view = await openLogView(
    context.repository,
    { owner, segmentSize, timeline: null, backupTimelines: manifests.map(each => each.backup.timeline) },
    signal,
  );
  const end = view.end;
  const gaps: string[] = [];
  for (
    let at = segmentStart(parseLsn(oldest.backup.startLsn), segmentSize);
    end !== null && at < end;
    at = nextSegment(at, segmentSize)
  ) {
    if (view.nameAt(at) === null) gaps.push(view.expectedName(at));
  }
  return gaps;
}

function isDamage(error: unknown): error is AppError {
  return error instanceof AppError && ['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'].includes(error.code);
}
