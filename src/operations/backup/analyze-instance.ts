import { access, constants } from 'node:fs/promises';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { type DataEntry, type ListOptions, listDataFiles } from '../../engines/postgres/data-files.ts';
import type { ServerFacts } from '../../engines/postgres/server-facts.ts';
import type { InstanceContext } from '../instance-context.ts';
import { archivingOf, pictureServer } from '../server-picture.ts';
import { type BackupEstimate, SampleCollector } from './estimate.ts';

export interface InstanceAnalysis {
  readonly facts: ServerFacts;
  readonly dataDirectory: string;
  readonly listing: Omit<ListOptions, 'signal'>;
  /** Whether the log comes into this repository: `elsewhere` when archive_command is not ours. */
  readonly archiving: 'on' | 'off' | 'elsewhere';
  readonly summary: AnalysisSummary;
}

/** What a person is shown before a backup. */
export interface AnalysisSummary {
  readonly serverVersion: string;
  readonly databaseBytes: number;
  /** Of the files that are going to be read. */
  readonly fileBytes: number;
  readonly tables: number;
  readonly indexes: number;
  readonly estimatedRows: number;
  readonly estimate: BackupEstimate;
}

/** Asks the server and looks at its files, without changing anything. */
export async function analyzeInstance(
  context: InstanceContext,
  signal: AbortSignal,
): Promise<InstanceAnalysis> {
  const { facts, totals } = await pictureServer(context.connection, signal);
  const dataDirectory = context.dataDirectory ?? facts.dataDirectory;
  await checkReadable(dataDirectory);
  const listing = {
    tablespaceVersionDirectory: facts.tablespaceVersionDirectory,
    relationSegmentBlocks: facts.relationSegmentBlocks,
    logDirectory: facts.logDirectory,
  };
  const samples = new SampleCollector();
  for await (const entry of listDataFiles(dataDirectory, { ...listing, signal })) {
    if (entry.kind === 'file') samples.add(entry.source, entry.sizeBytes);
    else refuseIncomplete(entry, dataDirectory);
  }
  return {
    facts,
    dataDirectory,
    listing,
    archiving: archivingOf(facts),
    summary: {
      serverVersion: facts.version,
      databaseBytes: totals.sizeBytes,
      fileBytes: samples.seenBytes,
      tables: totals.tables,
      indexes: totals.indexes,
      estimatedRows: totals.estimatedRows,
      estimate: await samples.estimate(context.level, context.workers),
    },
  };
}

/** Refuses what a backup would leave out of the database itself. @throws UNSUPPORTED */
export function refuseIncomplete(entry: DataEntry, dataDirectory: string): void {
  if (entry.kind !== 'passed over' || !entry.isDatabase) return;
  const { path, why } = entry;
  throw new AppError('UNSUPPORTED', `unable to back up '${dataDirectory}': '${path}' in it ${why}`, {
    hint: 'PostgreSQL itself links nothing but tablespaces and pg_wal: move what is there back to its place, or into a tablespace.',
  });
}

async function checkReadable(dataDirectory: string): Promise<void> {
  try {
    await access(`${dataDirectory}/global/pg_control`, constants.R_OK);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw fileError('read', dataDirectory, error);
    throw new AppError(
      'FILE_FAILED',
      `unable to read '${dataDirectory}': there is no database in it on this machine`,
      {
        hint: 'Run aishell on the database server itself, and check `data_directory` in aishell.yaml.',
      },
    );
  }
}
