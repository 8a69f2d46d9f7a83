import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted, formatCount } from '../../base/sizes.ts';
import { type BaseBackup, startBaseBackup } from '../../engines/postgres/base-backup.ts';
import { parseControlFile } from '../../engines/postgres/control-file.ts';
import type { DataFileEntry } from '../../engines/postgres/data-files.ts';
import { listDataFiles } from '../../engines/postgres/data-files.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { checkIdentity } from '../../repository/identity.ts';
import type { BackupFacts, BackupType } from '../../repository/manifest.ts';
import { ManifestWriter } from '../../repository/manifest-writer.ts';
import { tryRecordCatalog } from '../catalog/record-catalog.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { secureHistory } from '../log/secure-live-log.ts';
import { type SampleVerification, verifySample } from '../verify/verify-sample.ts';
import { analyzeInstance, type InstanceAnalysis, refuseIncomplete } from './analyze-instance.ts';
import { backupFacts, type Copied, problemsOf } from './backup-facts.ts';
import type { ForeseenParent } from './choose-parent.ts';
import { readConfigFiles } from './config-files.ts';
import { type FileCopier, startBackupThreads, startFileCopier } from './copy-files.ts';
import { estimateIncrement, type IncrementEstimate } from './estimate-increment.ts';
import { foreseeParent } from './foresee-parent.ts';
import { describeIncrement, type Increment, openIncrement } from './increment.ts';
import { nextBackupId } from './next-backup-id.ts';
import { secureBackupLog } from './secure-backup-log.ts';

export interface CreateBackupRequest {
  /** Null: `backup`. */
  readonly name: string | null;
  /** Where the type asked for cannot be had, a full backup is made. */
  readonly type: BackupType;
  readonly dryRun: boolean;
  /** How long to wait for archive_command to deliver the log that makes the backup restorable. */
  readonly logTimeoutMs?: number;
}

export interface CreateBackupResult {
  readonly dryRun: boolean;
  readonly analysis: InstanceAnalysis;
  /** Of a dry run of a differential or incremental backup. */
  readonly increment: IncrementEstimate | null;
  /** Null after a dry run. */
  readonly backup: BackupFacts | null;
  readonly manifestSha256: string | null;
  readonly verification: SampleVerification | null;
  readonly location: string;
  /** What needs attention although the backup is good: exit code 3. */
  readonly problems: readonly string[];
}

const LOG_TIMEOUT_MS = 60_000;
const CONTROL_FILE = 'global/pg_control';

/**
 * Takes a backup of a running instance. Nothing is listed until everything of it, the log it needs included, is
 * durable: the manifest's put is the commit.
 */
export async function createBackup(
  context: InstanceContext,
  request: CreateBackupRequest,
  options: RunOptions,
): Promise<CreateBackupResult> {
  const { repository, instance } = context;
  const { onEvent } = options;
  const analysis = await runStep(onEvent, { id: 'analyze', title: 'Analyzing database' }, () =>
    analyzeInstance(context, options.signal),
  );
  onEvent({ type: 'facts', topic: 'analysis', facts: { ...analysis.summary, type: request.type } });
  await checkIdentity(
    repository,
    { instance, systemIdentifier: analysis.facts.systemIdentifier },
    { signal: options.signal },
  );
  const location = repository.storage.description;
  if (request.dryRun)
    return {
      dryRun: true,
      analysis,
      increment: await estimate(context, { type: request.type, analysis }, options),
      backup: null,
      manifestSha256: null,
      verification: null,
      location,
      problems: [],
    };

  const startedAt = performance.now();
  const id = await nextBackupId(context, options.signal);
  const manifest = await ManifestWriter.create(repository, { instance, id });
  try {
    const copied = await copyInstance({
      context,
      options,
      analysis,
      id,
      manifest,
      logTimeoutMs: request.logTimeoutMs ?? LOG_TIMEOUT_MS,
      name: request.name ?? 'backup',
      type: request.type,
    });
    const backup = backupFacts({
      context,
      analysis,
      id,
      name: request.name ?? 'backup',
      copied,
      seconds: (performance.now() - startedAt) / 1000,
    });
    const committed = await runStep(
      onEvent,
      { id: 'commit', title: 'Backup committed', detail: () => id },
      () => manifest.commit(backup, copied.packs, { signal: options.signal }),
    );
    const verification = await runStep(
      onEvent,
      { id: 'verify', title: 'Backup verified', detail: describeSample },
      () => verifySample(context, { id, manifestSha256: committed.sha256 }, options),
    );
    return {
      dryRun: false,
      analysis,
      increment: null,
      backup,
      manifestSha256: committed.sha256,
      verification,
      location,
      problems: problemsOf(copied),
    };
  } finally {
    await manifest.close();
  }
}

async function estimate(
  context: InstanceContext,
  { type, analysis }: { readonly type: BackupType; readonly analysis: InstanceAnalysis },
  { signal, onEvent }: RunOptions,
): Promise<IncrementEstimate | null> {
  if (type === 'full') return null;
  const step = { id: 'changes', title: 'Changes since the parent' };
  return await runStep(onEvent, step, () => estimateIncrement(context, { type, analysis }, signal));
}

interface CopyRequest {
  readonly context: InstanceContext;
  readonly options: RunOptions;
  readonly analysis: InstanceAnalysis;
  readonly id: string;
  readonly name: string;
  readonly manifest: ManifestWriter;
  readonly logTimeoutMs: number;
  readonly type: BackupType;
}

async function copyInstance(request: CopyRequest): Promise<Copied> {
  const { context, options, analysis, type } = request;
  const { facts } = analysis;
  const { onEvent } = options;
  const lost = new AbortController();
  const signal = AbortSignal.any([options.signal, lost.signal]);
  await using threads = startBackupThreads({
    start: {
      location: context.location,
      keys: context.repository.keyring.toWorker(),
      instance: context.instance,
      backupId: request.id,
      level: context.level,
      blockSize: facts.blockSize,
    },
    workers: context.workers,
    signal,
  });
  await using foreseen = type === 'full' ? null : foreseeParent(context, { type, server: facts }, signal);
  await using base = await runStep(
    onEvent,
    { id: 'checkpoint', title: 'Server checkpoint', detail: started => `at ${started.startLsn}` },
    () =>
      startBaseBackup(context.connection, {
        label: `aishell ${request.id}`,
        fastCheckpoint: true,
        signal: options.signal,
      }),
  );
  base.lost.addEventListener('abort', () => lost.abort(base.lost.reason), { once: true });
  if (base.lost.aborted) lost.abort(base.lost.reason);
  await using increment = await beginIncrement({ ...request, base, foreseen }, signal);
  const copier = startFileCopier({
    threads,
    startLsn: facts.dataChecksums ? parseLsn(base.startLsn) : null,
    manifest: request.manifest,
    totalBytes: increment?.readBytes ?? analysis.summary.fileBytes,
    parentPacks: increment?.parent.packs ?? [],
    onEvent,
  });
  const copying = runStep(
    onEvent,
    { id: 'copy', title: 'Data backed up', detail: copied => counted(copied.assembler.fileCount, 'file') },
    () => copyEverything({ ...request, base, copier, increment, signal }),
  );
  const [copied] = await Promise.all([copying, tryRecordCatalog(context, { signal, onEvent })]);
  return copied;
}

async function copyEverything(
  request: CopyRequest & {
    readonly base: BaseBackup;
    readonly copier: FileCopier;
    readonly increment: Increment | null;
    readonly signal: AbortSignal;
  },
): Promise<Copied> {
  const { base, copier, analysis, increment, signal, options } = request;
  const { facts, dataDirectory } = analysis;
  for await (const entry of listDataFiles(dataDirectory, { ...analysis.listing, isFresh: true, signal })) {
    if (entry.kind === 'directory') copier.addDirectory(entry.path, entry.mode);
    else if (entry.kind === 'file')
      await copier.copy((await increment?.changesOf(entry, sourceOf(entry))) ?? sourceOf(entry));
    else {
      refuseIncomplete(entry, dataDirectory);
      const message = `'${entry.path}' is not in the backup: it ${entry.why}.`;
      options.onEvent({ type: 'note', level: 'warning', message });
    }
  }
  for (const file of await readConfigFiles(facts)) await copier.copy(file);
  // A page read after the end may be newer than the log that makes the copy consistent.
  await copier.settle();
  // The control file comes last: it must not be older than any page of the copy.
  await copier.copy(bytesFile(CONTROL_FILE, await readStableControlFile(dataDirectory)));
  const end = await base.stop();
  await copier.copy(bytesFile('backup_label', Buffer.from(end.labelFile)));
  if (end.tablespaceMap !== null)
    await copier.copy(bytesFile('tablespace_map', Buffer.from(end.tablespaceMap)));
  // While archive_command delivers.
  await copier.store();
  const log = await secureBackupLog({ ...request, end }, { signal, onEvent: options.onEvent });
  const assembler = await copier.finish();
  signal.throwIfAborted();
  if (log.problem !== null) options.onEvent({ type: 'note', level: 'warning', message: log.problem });
  return { base, end, assembler, packs: assembler.packs(), log, increment };
}

/** What an incremental backup goes on from; null, and said why, where that must be a full one. */
async function beginIncrement(
  request: CopyRequest & { readonly base: BaseBackup; readonly foreseen: ForeseenParent | null },
  signal: AbortSignal,
): Promise<Increment | null> {
  const { context, analysis, base, type, options, foreseen } = request;
  if (type === 'full') return null;
  const { facts, dataDirectory } = analysis;
  const { timeline } = base;
  const owner = { instance: context.instance, systemIdentifier: facts.systemIdentifier };
  await secureHistory(context, { owner, dataDirectory, timeline }, signal);
  const server = { ...facts, timeline, lsn: parseLsn(base.startLsn) };
  const opened = await runStep(
    options.onEvent,
    { id: 'changes', title: 'Changes since the parent', detail: describeIncrement },
    () => openIncrement(context, { type, server, dataDirectory, foreseen }, signal),
  );
  const tell = (level: 'info' | 'warning', message: string): void =>
    options.onEvent({ type: 'note', level, message });
  if ('reason' in opened) {
    tell('warning', `A full backup is made: ${opened.reason}.`);
    return null;
  }
  const { increment } = opened;
  if (increment.passedOver !== null)
    tell('info', `A newer backup is not the parent: ${increment.passedOver}.`);
  if (increment.why !== null) tell('info', `Every page is read for its position: ${increment.why}.`);
  return increment;
}

function sourceOf(entry: DataFileEntry): Parameters<FileCopier['copy']>[0] {
  return {
    path: entry.path,
    source: entry.source,
    sizeBytes: entry.sizeBytes,
    mode: entry.mode,
    firstBlock: entry.relation?.firstBlock ?? null,
    // Forks other than main are not in the log page by page: a later backup compares them by their hashes.
    ...(entry.relation === null || entry.relation.fork === 'main' ? {} : { hashed: true }),
  };
}

function bytesFile(path: string, bytes: Uint8Array): Parameters<FileCopier['copy']>[0] {
  return { path, source: bytes, sizeBytes: bytes.length, mode: 0o600, firstBlock: null };
}

/** The server rewrites the control file in place: a read that catches it half written is repeated until its CRC holds. */
async function readStableControlFile(dataDirectory: string): Promise<Uint8Array> {
  const path = join(dataDirectory, CONTROL_FILE);
  for (let attempt = 0; ; attempt += 1) {
    const bytes = await readFile(path).catch((error: unknown) => {
      throw fileError('read', path, error);
    });
    try {
      parseControlFile(bytes, path);
      return bytes;
    } catch (error) {
      if (attempt === 20) throw error;
      await sleep(25);
    }
  }
}

function describeSample(sample: SampleVerification): string {
  return `${counted(sample.packs, 'pack')}, ${formatCount(sample.sampledFrames)} of ${counted(sample.frames, 'frame')} restored and compared`;
}
