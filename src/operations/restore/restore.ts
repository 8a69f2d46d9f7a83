import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { isolatingSettingsFor } from '../../engines/postgres/recovery-settings.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { manifestLines } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { secureHistory, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { checkPacksPresent } from '../verify/verify-sample.ts';
import {
  CONFIG_FOLDER,
  type Layout,
  makeCopy,
  makeOwned,
  placeOf,
  prepareRecovery,
} from './assemble-directory.ts';
import { type LiveInstance, locateInstance } from './live-instance.ts';
import { startLogFeeder } from './log-feeder.ts';
import type { Owner } from './new-files.ts';
import { planRecovery, type RecoveryPlan } from './plan-restore.ts';
import { type Recovered, recoverDirectory } from './recover-directory.ts';
import type { RecoveryRequest } from './recovery-request.ts';
import { restoreFiles } from './restore-files.ts';
import { adoptLiveFiles, discardFresh, layOutInPlace, putInPlace } from './restore-in-place.ts';
import { type RestoreReport, reportOf, restoreStamp } from './restore-report.ts';
import {
  type CheckedDirectory,
  checkEmptyDirectory,
  checkSpace,
  claimDirectory,
  clearDirectory,
} from './target-directory.ts';

export interface RestoreRequest {
  readonly target: RecoveryRequest;
  /** Null: in place. */
  readonly directory: string | null;
  /** Null: the one that the live instance is on, else the newest. */
  readonly timeline: number | null;
  readonly dryRun: boolean;
}

export interface RestoreOptions extends RunOptions {
  /**
   * Asked before anything of the instance is touched: first for `restore <instance>`, with what is going to be
   * overwritten; then, with everything checked and ready, for `YES`. Throws to refuse.
   */
  readonly confirm: (question: 'instance' | 'ready', plan: RestoreReport) => Promise<void>;
}

const LOG_TIMEOUT_MS = 30_000;

/** Restores an instance in place, or into another directory. The live state is not touched until the new one is proven. */
export async function restore(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  return request.directory === null
    ? inPlace(context, request, options)
    : intoDirectory(context, request, { ...options, directory: request.directory });
}

async function inPlace(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { onEvent, signal } = options;
  const startedAt = performance.now();
  const stamp = restoreStamp(new Date());
  const live = await runStep(
    onEvent,
    {
      id: 'instance',
      title: 'Instance found',
      detail: found => `${found.dataDirectory}, ${found.running ? 'running' : 'stopped'}`,
    },
    () => locateInstance(context, signal),
  );
  const plan = await planWithLog(context, request, { ...options, live });
  const layout = await layOutInPlace(live.dataDirectory, plan.backup, stamp);
  await checkSpace(layout.fresh.dataDirectory, plan.backupBytes + plan.logBytes);
  const service = await detectService(layout.dataDirectory, {
    setting: context.service,
    binaries: context.binaries,
    serverAnswers: live.answers,
  });
  const binaries = await findBinaries(Math.trunc(plan.backup.serverVersion / 10_000), {
    configured: context.binaries,
    dataDirectory: layout.dataDirectory,
  });
  const report = { context, plan, live, service, layout, request };
  if (request.dryRun)
    return reportOf({
      ...report,
      dryRun: true,
      seconds: secondsSince(startedAt),
      recovered: null,
      downtimeSeconds: null,
    });
  const before = reportOf({ ...report, dryRun: true, seconds: 0, recovered: null, downtimeSeconds: null });
  await options.confirm('instance', before);
  await checkPacks(context, plan, options);
  await options.confirm('ready', before);
  let recovered: Recovered;
  const stoppedAt = performance.now();
  try {
    await stopServer(live, service, options);
    recovered = await restoreAndRecover(
      context,
      { plan, layout: layout.fresh, owner: layout.owner, binaries },
      options,
    );
    await adoptLiveFiles(layout, recovered, options);
  } catch (error) {
    await discardFresh(layout);
    throw withWayBack(error, service, options);
  }
  await putInPlace(layout, { context, service }, options);
  return reportOf({
    ...report,
    dryRun: false,
    seconds: secondsSince(startedAt),
    recovered,
    downtimeSeconds: live.running ? secondsSince(stoppedAt) : null,
  });
}

async function intoDirectory(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions & { readonly directory: string },
): Promise<RestoreReport> {
  const startedAt = performance.now();
  // An instance that is gone, broken or somebody else's is a usual reason to restore beside it.
  const live = await locateInstance(context, options.signal).catch((error: unknown) => {
    if (error instanceof AppError) return null;
    throw error;
  });
  const repositoryPath = context.location.kind === 'local' ? context.location.path : null;
  const directory = await checkEmptyDirectory(options.directory, {
    dataDirectory: live?.dataDirectory ?? context.dataDirectory,
    repositoryPath,
  });
  const plan = await planWithLog(context, request, { ...options, live });
  await checkSpace(directory.path, plan.backupBytes + plan.logBytes);
  const major = Math.trunc(plan.backup.serverVersion / 10_000);
  const binaries = await findBinaries(major, {
    configured: context.binaries,
    ...(live === null ? {} : { dataDirectory: live.dataDirectory }),
  });
  const report = { context, plan, live, service: null, layout: null, request };
  if (request.dryRun)
    return reportOf({
      ...report,
      dryRun: true,
      seconds: secondsSince(startedAt),
      recovered: null,
      downtimeSeconds: null,
    });
  await checkPacks(context, plan, options);
  const owner = await ownerFor(live, plan);
  const layout = layoutBelow(directory, plan);
  await claimDirectory(directory, owner);
  try {
    const recovered = await restoreAndRecover(context, { plan, layout, owner, binaries }, options);
    const settings = {
      ...isolatingSettingsFor(major),
      restore_command: '',
      listen_addresses: 'localhost',
      port: String(copyPort(live)),
      unix_socket_directories: '/tmp',
      // The origin's own would be written to by both.
      log_directory: 'log',
      cluster_name: 'aishell restored copy',
    };
    await makeCopy(layout, { backup: plan.backup, settings, owner, restoredAt: new Date().toISOString() });
    return reportOf({
      ...report,
      dryRun: false,
      seconds: secondsSince(startedAt),
      recovered,
      downtimeSeconds: null,
      copy: { path: directory.path, port: copyPort(live), pgCtl: binaries.pgCtl },
    });
  } catch (error) {
    await clearDirectory(directory);
    throw error;
  }
}

interface Restoring {
  readonly plan: RecoveryPlan;
  readonly layout: Layout;
  readonly owner: Owner;
  readonly binaries: Awaited<ReturnType<typeof findBinaries>>;
}

async function restoreAndRecover(
  context: InstanceContext,
  restoring: Restoring,
  options: RunOptions,
): Promise<Recovered> {
  const { plan, layout, owner } = restoring;
  await runStep(
    options.onEvent,
    { id: 'restore-files', title: 'Files restored', detail: done => `${done.files} files` },
    async () => {
      await makeOwned(layout.dataDirectory, owner);
      for (const place of layout.tablespaces.values()) await makeOwned(place, owner);
      return restoreFiles(
        context,
        {
          manifest: plan.manifest,
          placeOf: line =>
            line.t === 'config' ? join(layout.dataDirectory, CONFIG_FOLDER, line.p) : placeOf(layout, line.p),
          owner,
          workers: context.workers,
        },
        options,
      );
    },
  );
  await prepareRecovery(layout, plan.backup, owner);
  await using feeder = startLogFeeder(
    context,
    {
      files: plan.logFiles,
      log: { instance: context.instance, systemIdentifier: plan.backup.systemIdentifier },
      directory: join(layout.dataDirectory, 'pg_wal'),
      owner,
      workers: context.workers,
    },
    options.signal,
  );
  return await recoverDirectory(
    layout,
    { plan, binaries: restoring.binaries, workers: context.workers, feeder },
    options,
  );
}

/** First gets what the live server has of the log into the archive, then plans with it. */
async function planWithLog(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions & { readonly live: LiveInstance | null },
): Promise<RecoveryPlan> {
  const { live, onEvent, signal } = options;
  const askedUs = BigInt(Date.now()) * 1000n;
  if (request.dryRun && live?.running === true) {
    const message =
      'a dry run archives nothing: what the server committed in its present log segment is not seen yet';
    onEvent({ type: 'note', level: 'info', message });
  }
  // A dry run secures nothing and takes it that the real one will.
  let isSecured = live !== null && (!live.running || (live.answers && live.archiving));
  if (live !== null && !request.dryRun && request.target.kind !== 'backup') {
    const owner = { instance: context.instance, systemIdentifier: live.systemIdentifier };
    if (request.timeline === null) await secureHistory(context, { owner, ...live }, signal);
    const secured = await runStep(
      onEvent,
      { id: 'secure-log', title: 'Log of the live server archived', detail: log => log.detail },
      async () =>
        live.answers && live.archiving
          ? secureRunningLog(context, owner, { timeoutMs: LOG_TIMEOUT_MS, signal })
          : live.running
            ? { detail: 'log archiving is off', archived: [], problem: null }
            : secureStoppedLog(context, { owner, dataDirectory: live.dataDirectory }, signal),
    );
    if (secured.problem !== null) {
      isSecured = false;
      onEvent({ type: 'note', level: 'warning', message: secured.problem });
    }
  }
  return runStep(
    onEvent,
    {
      id: 'plan',
      title: 'Recovery planned',
      detail: plan => `from ${plan.backup.id}, ${plan.logFiles.length} files of the log`,
    },
    () =>
      planRecovery(context, request.target, {
        timeline: request.timeline ?? live?.timeline ?? null,
        systemIdentifier: live?.systemIdentifier ?? null,
        securedUs: isSecured ? askedUs : null,
        signal,
      }),
  );
}

async function checkPacks(context: InstanceContext, plan: RecoveryPlan, options: RunOptions): Promise<void> {
  await runStep(
    options.onEvent,
    {
      id: 'check',
      title: 'Backup complete',
      detail: files => `${plan.manifest.packs.length} packs, ${files} files`,
    },
    async () => {
      await checkPacksPresent(context, plan.manifest, options.signal);
      // Read to its end while the server still runs: damage in the middle of the list would end a restore halfway.
      let files = 0;
      for await (const line of manifestLines(context.repository, plan.manifest, { signal: options.signal }))
        if (line.t !== 'dir') files += 1;
      return files;
    },
  );
}

async function stopServer(live: LiveInstance, service: Service, options: RunOptions): Promise<void> {
  if (!live.running) return;
  await runStep(
    options.onEvent,
    { id: 'stop', title: 'Server stopped', detail: () => service.description },
    () => service.stop({ mode: 'fast', signal: options.signal }),
  );
}

/** Whatever ended it, a person is told how the old state is started again; a cancelled run stays cancelled. */
function withWayBack(error: unknown, service: Service, options: RunOptions): unknown {
  const way = `The old state is untouched; start it with: ${service.startCommand}`;
  if (!(error instanceof AppError)) {
    options.onEvent({ type: 'note', level: 'warning', message: way });
    return error;
  }
  return new AppError(error.code, error.message, {
    hint: `${error.hint === undefined ? '' : `${error.hint} `}${way}`,
    cause: error,
    ...(error.details === undefined ? {} : { details: error.details }),
  });
}

function layoutBelow(directory: CheckedDirectory, plan: RecoveryPlan): Layout {
  const tablespaces = new Map(
    plan.backup.tablespaces.map(
      ({ oid }) => [oid, join(directory.path, 'aishell-tablespaces', String(oid))] as const,
    ),
  );
  return { dataDirectory: directory.path, tablespaces };
}

/** A server never runs as root: what root restores belongs to whom the original belongs to. */
async function ownerFor(live: LiveInstance | null, plan: RecoveryPlan): Promise<Owner> {
  if (process.getuid?.() !== 0) return null;
  const origin = live?.dataDirectory ?? plan.backup.dataDirectory;
  const facts = await stat(origin).catch(() => null);
  if (facts !== null && facts.uid !== 0) return { uid: facts.uid, gid: facts.gid };
  throw new AppError(
    'TARGET_UNUSABLE',
    'unable to tell which user the restored files shall belong to: PostgreSQL does not run as root',
    {
      hint: 'Run the restore as that user, for instance: sudo -u postgres aishell backup restore …',
    },
  );
}

/** One more than the original's, so that both can run side by side. */
function copyPort(live: LiveInstance | null): number {
  return (live?.port ?? 5432) + 1;
}

function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1000;
}
