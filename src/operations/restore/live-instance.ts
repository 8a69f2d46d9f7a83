import { AppError } from '../../base/errors.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import {
  inspectDataDirectory,
  readPostmasterFile,
  runningServer,
} from '../../engines/postgres/data-directory.ts';
import type { ServerFacts } from '../../engines/postgres/server-facts.ts';
import { checkIdentity, readIdentities } from '../../repository/identity.ts';
import { listBackupIds, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { archivingOf, pictureServer } from '../server-picture.ts';
import { isDamage } from '../verify/verify-problem.ts';

/** The instance as it is now: running, stopped, or broken. */
export interface LiveInstance {
  readonly dataDirectory: string;
  readonly systemIdentifier: string;
  readonly majorVersion: number;
  /** Which it is on; after an undone restore this is not the newest in the archive. */
  readonly timeline: number;
  readonly running: boolean;
  /** It takes our connections. */
  readonly answers: boolean;
  /** A standby, as after `emergency stop-writes --level strict`: it completes no segment of its log, and archives none. */
  readonly inRecovery: boolean;
  readonly archiving: boolean;
  readonly port: number | null;
  /** Null when it does not answer. */
  readonly totals: {
    readonly sizeBytes: number;
    readonly tables: number;
    readonly estimatedRows: number;
    readonly clientConnections: number;
  } | null;
}

/**
 * Finds the instance's data directory: from the server, else from the configuration, else where the newest backup was
 * taken. A server that is down is a usual reason to restore.
 *
 * @throws SYSTEM_MISMATCH when another database lies there
 */
export async function locateInstance(context: InstanceContext, signal: AbortSignal): Promise<LiveInstance> {
  return await describeInstance(context, await findInstance(context, signal), signal);
}

/** Where an instance lies, and what its server says if it answers. */
export interface FoundInstance {
  readonly dataDirectory: string;
  readonly answer: Answer | null;
}

interface Answer {
  readonly facts: ServerFacts;
  readonly totals: LiveInstance['totals'];
}

/** @throws DATABASE_UNREACHABLE when neither the server nor the configuration nor a backup knows */
export async function findInstance(context: InstanceContext, signal: AbortSignal): Promise<FoundInstance> {
  const answer = await ask(context, signal);
  const dataDirectory =
    answer?.facts.dataDirectory ?? context.dataDirectory ?? (await lastKnownDirectory(context, signal));
  if (dataDirectory === null) {
    throw new AppError(
      'DATABASE_UNREACHABLE',
      `unable to find instance '${context.instance}': its server does not answer, and its data directory is not known`,
      {
        hint: 'Set `data_directory` of the instance in aishell.yaml, or restore into an empty directory with --target.',
      },
    );
  }
  return { dataDirectory, answer };
}

/** From the moment a server writes its process down to the one it calls its start: it reads its configuration, and takes its memory. */
const STARTING_MS = 300_000;

/**
 * Makes sure that the server that answers is the one of the data directory of that name here. After a failover the address may
 * lead to another machine, where a server of the same system has its files at the same place.
 *
 * @throws SYSTEM_MISMATCH
 */
export async function refuseElsewhere({ dataDirectory, answer }: FoundInstance): Promise<void> {
  if (answer === null) return;
  const own = await readPostmasterFile(dataDirectory);
  const startedMs = Date.parse(answer.facts.startTime);
  if (own !== null && Math.abs(own.startTimeSeconds * 1000 - startedMs) < STARTING_MS) return;
  throw new AppError(
    'SYSTEM_MISMATCH',
    `unable to restore in place: the server that answers does not run in '${dataDirectory}' of this machine`,
    {
      hint: 'Nothing was changed. Run this where that server runs; or, to restore the one whose files lie here, correct `connection` of the instance in aishell.yaml.',
    },
  );
}

/** @throws SYSTEM_MISMATCH when another database lies there */
export async function describeInstance(
  context: InstanceContext,
  { dataDirectory, answer }: FoundInstance,
  signal: AbortSignal,
): Promise<LiveInstance> {
  const directory = await inspectDataDirectory(dataDirectory);
  const control = await readControlFile(directory.path);
  if (answer !== null && answer.facts.systemIdentifier !== control.systemIdentifier) {
    throw new AppError('SYSTEM_MISMATCH', `the server that answers is not the one of '${dataDirectory}'`, {
      hint: 'Check `connection` and `data_directory` of the instance in aishell.yaml.',
    });
  }
  await checkIdentity(
    context.repository,
    { instance: context.instance, systemIdentifier: control.systemIdentifier },
    { signal },
  );
  const running = (await runningServer(directory.path)) !== null || answer !== null;
  return {
    dataDirectory: directory.path,
    systemIdentifier: control.systemIdentifier,
    majorVersion: directory.majorVersion,
    timeline: control.checkpoint.timeline,
    running,
    answers: answer !== null,
    inRecovery: answer?.facts.inRecovery ?? false,
    archiving: answer !== null && archivingOf(answer.facts) === 'on',
    port: answer?.facts.port ?? null,
    totals: answer?.totals ?? null,
  };
}

async function ask(context: InstanceContext, signal: AbortSignal): Promise<Answer | null> {
  try {
    const { facts, totals } = await pictureServer(context.connection, signal);
    return {
      facts,
      totals: {
        sizeBytes: totals.sizeBytes,
        tables: totals.tables,
        estimatedRows: totals.estimatedRows,
        clientConnections: facts.clientConnections,
      },
    };
  } catch (error) {
    if (error instanceof AppError && error.code === 'DATABASE_UNREACHABLE') return null;
    throw error;
  }
}

async function lastKnownDirectory(context: InstanceContext, signal: AbortSignal): Promise<string | null> {
  const known = new Set(
    (await readIdentities(context.repository, context.instance, { signal })).map(
      each => each.systemIdentifier,
    ),
  );
  for (const id of (await listBackupIds(context.repository, context.instance, { signal })).reverse()) {
    const manifest = await openManifest(
      context.repository,
      { instance: context.instance, id },
      { signal },
    ).catch((error: unknown) => {
      // A damaged backup says nothing; one before it may.
      if (isDamage(error)) return null;
      throw error;
    });
    if (manifest !== null && known.has(manifest.backup.systemIdentifier))
      return manifest.backup.dataDirectory;
  }
  return null;
}
