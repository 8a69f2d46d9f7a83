import { expect, test } from 'vitest';
import { recoveryError } from '../../../src/engines/postgres/isolated-server-log.ts';
import {
  insufficientSettings,
  isolatedSettings,
} from '../../../src/engines/postgres/isolated-server-settings.ts';

const line = (text: string): string => `2026-11-22 23:45:00.000 UTC [77] ${text}\n`;

test('a recovery that ended - the reason, not what clients were told meanwhile', () => {
  const log =
    line('LOG:  starting PostgreSQL') +
    line('FATAL:  recovery ended before configured recovery target was reached') +
    line('FATAL:  the database system is starting up') +
    line('LOG:  database system is shut down');
  const error = recoveryError('/data', log, '/log');
  expect(error.code).toBe('RECOVERY_FAILED');
  expect(error.message).toContain('recovery ended before configured recovery target was reached');
  expect(error.hint).toMatch(/choose an earlier one.*\/log/);
});

test('a missing library - says which, and what to do', () => {
  const error = recoveryError(
    '/data',
    line('FATAL:  could not access file "timescaledb": No such file or directory'),
    '/log',
  );
  expect(error.message).toContain('timescaledb');
  expect(error.hint).toContain('Install the extension');
});

test('settings that production raised since - are read from the log', () => {
  const log =
    line('WARNING:  hot standby is not possible because of insufficient parameter settings') +
    line(
      'DETAIL:  max_connections = 100 is a lower setting than on the primary server, where its value was 250.',
    );
  expect(insufficientSettings(log)).toEqual({ max_connections: '250' });
  expect(insufficientSettings('')).toEqual({});
});

test('every version - is closed to the outside and archives nothing', () => {
  const control = {
    maxConnections: 77,
    maxWorkerProcesses: 9,
    maxWalSenders: 11,
    maxPreparedTransactions: 5,
    maxLocksPerTransaction: 99,
    trackCommitTimestamp: true,
    walSegmentSize: 16 * 1024 * 1024,
    walLogHints: true,
  };
  for (const majorVersion of [14, 15, 16, 17, 18] as const) {
    const settings = isolatedSettings({
      control: { ...control, majorVersion },
      privateDirectory: '/p',
      hotStandby: true,
      disposable: false,
      sharedPreloadLibraries: '',
    });
    expect(settings).toMatchObject({
      listen_addresses: '',
      unix_socket_directories: '/p',
      archive_mode: 'off',
      archive_command: '',
      primary_conninfo: '',
      synchronous_standby_names: '',
      max_logical_replication_workers: '0',
      external_pid_file: '',
      shared_preload_libraries: '',
      config_file: '/p/postgresql.conf',
      max_connections: '77',
      track_commit_timestamp: 'on',
      wal_log_hints: 'on',
    });
    expect(settings).not.toHaveProperty('fsync');
  }
});
