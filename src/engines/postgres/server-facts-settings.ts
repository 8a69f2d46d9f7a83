import { AppError } from '../../base/errors.ts';
import { quoteIdentifier } from './connection-errors.ts';

export interface ServerSettings {
  readonly dataDirectory: string;
  readonly configFile: string;
  readonly hbaFile: string;
  readonly identFile: string;
  readonly port: number;
  readonly blockSize: number;
  readonly walSegmentSize: number;
  /** Blocks in one file of a large relation. */
  readonly relationSegmentBlocks: number;
  readonly dataChecksums: boolean;
  readonly walLevel: string;
  readonly archiveMode: string;
  /** Empty when it is not set. */
  readonly archiveCommand: string;
  /** Empty when it is not set, or before version 15. */
  readonly archiveLibrary: string;
  readonly archiveTimeoutSeconds: number;
  readonly fullPageWrites: boolean;
  readonly walLogHints: boolean;
  readonly trackCommitTimestamp: boolean;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxReplicationSlots: number;
  readonly maxPreparedTransactions: number;
  readonly maxLocksPerTransaction: number;
  /** Where the server's own log goes when it collects it, as set: relative to the data directory, or absolute. */
  readonly logDirectory: string;
  readonly loggingCollector: boolean;
  readonly sharedPreloadLibraries: string;
  readonly synchronousStandbyNames: string;
}

const names = [
  'data_directory',
  'config_file',
  'hba_file',
  'ident_file',
  'port',
  'block_size',
  'wal_segment_size',
  'segment_size',
  'data_checksums',
  'wal_level',
  'archive_mode',
  'archive_command',
  'archive_library',
  'archive_timeout',
  'full_page_writes',
  'wal_log_hints',
  'track_commit_timestamp',
  'max_connections',
  'max_worker_processes',
  'max_wal_senders',
  'max_replication_slots',
  'max_prepared_transactions',
  'max_locks_per_transaction',
  'log_directory',
  'logging_collector',
  'shared_preload_libraries',
  'synchronous_standby_names',
] as const;

export type SettingName = (typeof names)[number];

/** pg_settings leaves out what a user may not see, where SHOW would fail. */
export const settingsSql = `
  select name, setting, unit from pg_settings where name = any('{${names.join(',')}}'::text[])`;

/**
 * What the settings mean.
 *
 * @throws DATABASE_DENIED the server hid some: the user lacks pg_monitor
 */
export function parseSettings(
  rows: readonly { readonly name: string; readonly setting: string | null; readonly unit: string | null }[],
  user: string,
): ServerSettings {
  const values = new Map(rows.map(row => [row.name, row]));
  const text = (name: SettingName, missing?: string): string => {
    const value = values.get(name)?.setting ?? missing;
    if (value !== undefined) return value;
    throw new AppError(
      'DATABASE_DENIED',
      `unable to read the server's setting ${name}: '${user}' may not see it`,
      {
        hint: `As a superuser: GRANT pg_monitor TO ${quoteIdentifier(user)};`,
      },
    );
  };
  const number = (name: SettingName): number => Number(text(name));
  const on = (name: SettingName): boolean => text(name) === 'on';
  return {
    dataDirectory: text('data_directory'),
    configFile: text('config_file'),
    hbaFile: text('hba_file'),
    identFile: text('ident_file'),
    port: number('port'),
    blockSize: number('block_size'),
    walSegmentSize: number('wal_segment_size') * unitBytes(values.get('wal_segment_size')?.unit),
    relationSegmentBlocks: number('segment_size'),
    dataChecksums: on('data_checksums'),
    walLevel: text('wal_level'),
    archiveMode: text('archive_mode'),
    // '(disabled)' is what the server shows while archive_mode is off.
    archiveCommand: text('archive_command').replace(/^\(disabled\)$/, ''),
    archiveLibrary: text('archive_library', ''),
    archiveTimeoutSeconds: number('archive_timeout'),
    fullPageWrites: on('full_page_writes'),
    walLogHints: on('wal_log_hints'),
    trackCommitTimestamp: on('track_commit_timestamp'),
    maxConnections: number('max_connections'),
    maxWorkerProcesses: number('max_worker_processes'),
    maxWalSenders: number('max_wal_senders'),
    maxReplicationSlots: number('max_replication_slots'),
    maxPreparedTransactions: number('max_prepared_transactions'),
    maxLocksPerTransaction: number('max_locks_per_transaction'),
    logDirectory: text('log_directory'),
    loggingCollector: on('logging_collector'),
    sharedPreloadLibraries: text('shared_preload_libraries'),
    synchronousStandbyNames: text('synchronous_standby_names'),
  };
}

/** @source PostgreSQL manual, "pg_settings": the implicit unit of a setting */
function unitBytes(unit: string | null | undefined): number {
  return { B: 1, kB: 1024, '8kB': 8192, MB: 1024 * 1024 }[unit ?? 'B'] ?? 1;
}
