import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { type BaseBackup, type BaseBackupEnd, startBaseBackup } from '../../engines/postgres/base-backup.ts';
import { parseControlFile } from '../../engines/postgres/control-file.ts';
import type { DataFileEntry } from '../../engines/postgres/data-files.ts';
import { listDataFiles } from '../../engines/postgres/data-files.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { formatCompression } from '../../repository/compression.ts';
import { checkIdentity } from '../../repository/identity.ts';
import { newBackupId } from '../../repository/layout.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { ManifestWriter } from '../../repository/manifest-writer.ts';
import { tryRecordCatalog } from '../catalog/record-catalog.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { secureHistory } from '../log/secure-live-log.ts';
import { segmentsOf, waitForLog } from '../log/wait-for-log.ts';
import { type SampleVerification, verifySample } from '../verify/verify-sample.ts';
import { analyzeInstance, type InstanceAnalysis } from './analyze-instance.ts';
import { readConfigFiles } from './config-files.ts';
import { type FileCopier, startFileCopier } from './copy-files.ts';
import type { FileAssembler } from './file-assembler.ts';

export interface CreateBackupRequest {
  /** Null: `backup`. */
  readonly name: string | null;
  readonly dryRun: boolean;
  /** How long to wait for archive_command to deliver the log that makes the backup restorable. */
  readonly logTimeoutMs?: number;
}

export interface CreateBackupResult {
  readonly dryRun: boolean;
  readonly analysis: InstanceAnalysis;
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
 * Takes a full backup of a running instance. Nothing is listed until everything of it, the log it needs included, is
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
  onEvent({ type: 'facts', topic: 'analysis', facts: { ...analysis.summary } });
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
      backup: null,
      manifestSha256: null,
      verification: null,
      location,
      problems: [],
    };

  const startedAt = performance.now();
  const id = newBackupId(new Date(), randomBytes(3));
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
      () => manifest.commit(backup, copied.assembler.packs(), { signal: options.signal }),
    );
    const verification = await runStep(
      onEvent,
      { id: 'verify', title: 'Backup verified', detail: describeSample },
      () => verifySample(context, { id, manifestSha256: committed.sha256 }, options),
    );
    return {
      dryRun: false,
      analysis,
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

interface Copied {
  readonly base: BaseBackup;
  readonly end: BaseBackupEnd;
  readonly assembler: FileAssembler;
  readonly storedBytes: number;
  readonly logIncluded: boolean;
  readonly logArchived: boolean;
  readonly logProblem: string | null;
}

interface CopyRequest {
  readonly context: InstanceContext;
  readonly options: RunOptions;
  readonly analysis: InstanceAnalysis;
  readonly id: string;
  readonly name: string;
  readonly manifest: ManifestWriter;
  readonly logTimeoutMs: number;
}

async function copyInstance(request: CopyRequest): Promise<Copied> {
  const { context, options, analysis } = request;
  const { facts } = analysis;
  const { onEvent } = options;
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
  const signal = AbortSignal.any([options.signal, base.lost]);
  const copier = startFileCopier({
    start: {
      location: context.location,
      keys: context.repository.keyring.toWorker(),
      instance: context.instance,
      backupId: request.id,
      level: context.level,
      blockSize: facts.blockSize,
      startLsn: facts.dataChecksums ? parseLsn(base.startLsn) : null,
    },
    workers: context.workers,
    manifest: request.manifest,
    totalBytes: analysis.summary.fileBytes,
    signal,
    onEvent,
  });
  try {
    const copying = runStep(
      onEvent,
      { id: 'copy', title: 'Data backed up', detail: copied => `${copied.assembler.fileCount} files` },
      () => copyEverything({ ...request, base, copier, signal }),
    );
    const [copied] = await Promise.all([copying, tryRecordCatalog(context, { signal, onEvent })]);
    return copied;
  } finally {
    await copier.terminate();
  }
}

async function copyEverything(
  request: CopyRequest & {
    readonly base: BaseBackup;
    readonly copier: FileCopier;
    readonly signal: AbortSignal;
  },
): Promise<Copied> {
  const { base, copier, analysis, signal, options } = request;
  const { facts, dataDirectory } = analysis;
  for await (const entry of listDataFiles(dataDirectory, { ...analysis.listing, signal })) {
    if (entry.kind === 'directory') copier.addDirectory(entry.path, entry.mode);
    else if (entry.kind === 'file') await copier.copy(sourceOf(entry));
  }
  for (const file of await readConfigFiles(facts)) await copier.copy(file);
  // The control file comes last: it must not be older than any page of the copy.
  await copier.copy(bytesFile(CONTROL_FILE, await readStableControlFile(dataDirectory)));
  const end = await base.stop();
  await copier.copy(bytesFile('backup_label', Buffer.from(end.labelFile)));
  if (end.tablespaceMap !== null)
    await copier.copy(bytesFile('tablespace_map', Buffer.from(end.tablespaceMap)));
  // The threads work on while archive_command delivers.
  await copier.flush();
  const log = await secureLog({ ...request, end });
  const assembler = await copier.finish();
  signal.throwIfAborted();
  if (log.problem !== null) options.onEvent({ type: 'note', level: 'warning', message: log.problem });
  return {
    base,
    end,
    assembler,
    logIncluded: log.included,
    logArchived: log.archived,
    logProblem: log.problem,
    storedBytes: assembler.packs().reduce((sum, pack) => sum + pack.sizeBytes, 0),
  };
}

/** A backup without the log from its start to its end is worthless: waits until it is archived, or takes it along. */
async function secureLog(
  request: CopyRequest & {
    readonly base: BaseBackup;
    readonly end: BaseBackupEnd;
    readonly copier: FileCopier;
    readonly signal: AbortSignal;
  },
): Promise<{ included: boolean; archived: boolean; problem: string | null }> {
  const { context, analysis, base, end, copier, signal } = request;
  const { facts } = analysis;
  const names = segmentsOf({
    timeline: base.timeline,
    from: parseLsn(base.startLsn),
    to: parseLsn(end.stopLsn),
    segmentSize: facts.walSegmentSize,
  });
  const owner = { instance: context.instance, systemIdentifier: facts.systemIdentifier };
  const { dataDirectory } = analysis;
  await secureHistory(context, { owner, dataDirectory, timeline: base.timeline }, signal);
  let problem: string | null = null;
  if (analysis.archiving === 'on') {
    const missing = await runStep(
      request.options.onEvent,
      {
        id: 'log',
        title: 'Log of the backup archived',
        detail: left =>
          left.length === 0
            ? `${names.length} segments`
            : `${left.length} of ${names.length} segments missing: taken along`,
      },
      () => waitForLog(context.repository, { owner, names, timeoutMs: request.logTimeoutMs }, signal),
    );
    if (missing.length === 0) return { included: false, archived: true, problem: null };
    problem = `archive_command has not delivered ${missing[0]} within ${request.logTimeoutMs / 1000}s: later points in time cannot be reached until it does. See the server's log, and \`aishell doctor\`.`;
  } else if (analysis.archiving === 'elsewhere') {
    problem =
      'archive_command does not run `aishell backup wal-archive`: this backup can be restored to its own end, to no later point in time. `aishell doctor` says what to set.';
  } else {
    problem =
      'log archiving is off: this backup can be restored to its own end, to no later point in time. `aishell doctor` says how to turn it on.';
  }
  if (base.logNotHeld !== null && problem === null) problem = base.logNotHeld;
  for (const name of names) {
    const source = join(analysis.dataDirectory, 'pg_wal', name);
    await copier.copy({
      path: `pg_wal/${name}`,
      source,
      sizeBytes: facts.walSegmentSize,
      mode: 0o600,
      firstBlock: null,
    });
  }
  return { included: true, archived: false, problem };
}

function sourceOf(entry: DataFileEntry): Parameters<FileCopier['copy']>[0] {
  return {
    path: entry.path,
    source: entry.source,
    sizeBytes: entry.sizeBytes,
    mode: entry.mode,
    firstBlock: entry.relation?.firstBlock ?? null,
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

function backupFacts(made: {
  readonly context: InstanceContext;
  readonly analysis: InstanceAnalysis;
  readonly id: string;
  readonly name: string;
  readonly copied: Copied;
  readonly seconds: number;
}): BackupFacts {
  const { context, analysis, copied } = made;
  const { facts } = analysis;
  return {
    id: made.id,
    name: made.name,
    instance: context.instance,
    engine: 'postgresql',
    type: 'full',
    toolVersion: context.toolVersion,
    serverVersion: facts.versionNumber,
    systemIdentifier: facts.systemIdentifier,
    timeline: copied.base.timeline,
    startLsn: copied.base.startLsn,
    stopLsn: copied.end.stopLsn,
    startTime: copied.base.startTime,
    stopTime: copied.end.stopTime,
    blockSize: facts.blockSize,
    walSegmentSize: facts.walSegmentSize,
    relationSegmentBlocks: facts.relationSegmentBlocks,
    tablespaceVersionDirectory: facts.tablespaceVersionDirectory,
    bootstrapSuperuser: facts.bootstrapSuperuser,
    pageChecksums: facts.dataChecksums,
    dataDirectory: analysis.dataDirectory,
    tablespaces: facts.tablespaces
      .filter(each => each.path !== '')
      .map(({ oid, name, path }) => ({ oid, name, path })),
    databases: facts.databases.map(each => each.name),
    tables: analysis.summary.tables,
    indexes: analysis.summary.indexes,
    estimatedRows: analysis.summary.estimatedRows,
    sizeBytes: copied.assembler.copiedBytes,
    storedBytes: copied.storedBytes,
    fileCount: copied.assembler.fileCount,
    compression: formatCompression(context.level),
    durationSeconds: made.seconds,
    logIncluded: copied.logIncluded,
    logArchived: copied.logArchived,
    damagedPages: copied.assembler.damaged.slice(0, 1000),
  };
}

function problemsOf(copied: Copied): string[] {
  const problems: string[] = [];
  if (copied.logProblem !== null) problems.push(copied.logProblem);
  const [first] = copied.assembler.damaged;
  if (first !== undefined) {
    problems.push(
      `${copied.assembler.damaged.length} pages of the database are damaged on the server's own disk (first: block ${first.block} of ${first.path}): the backup has them as they are. Keep older backups, and look at the server's storage.`,
    );
  }
  return problems;
}

function describeSample(sample: SampleVerification): string {
  return `${sample.packs} packs, ${sample.sampledFrames} of ${sample.frames} frames restored and compared`;
}
