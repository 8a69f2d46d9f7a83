import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { appendFile, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { switchWal } from '../../src/engines/postgres/base-backup.ts';
import { connect } from '../../src/engines/postgres/connection.ts';
import { runningServer } from '../../src/engines/postgres/data-directory.ts';
import {
  type IsolatedServerOptions,
  type ReplayProgress,
  startIsolatedServer,
} from '../../src/engines/postgres/isolated-server.ts';
import {
  type RecoveryTarget,
  recoverySettings,
  type TargetAction,
} from '../../src/engines/postgres/recovery-settings.ts';
import { archiving, copyCluster, restoreCommand } from '../support/copied-cluster.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

function options(
  cluster: TestCluster,
  dataDirectory: string,
  target: RecoveryTarget,
  action: TargetAction = 'pause',
): IsolatedServerOptions {
  return {
    dataDirectory,
    binaries: { postgres: join(cluster.binaries.binDirectory, 'postgres') },
    settings: recoverySettings({ target, timeline: 1, action, restoreCommand: restoreCommand(cluster) }),
    disposable: true,
  };
}

/** Completes the segment and waits until it is archived; where the log stood before. */
async function archive(cluster: TestCluster): Promise<string> {
  const client = await connect(cluster.connection);
  try {
    const { rows } = await client.query('select pg_current_wal_lsn()::text as lsn');
    const { segment } = await switchWal(client);
    await expect
      .poll(() => existsSync(join(cluster.directory, 'archive', segment)), { timeout: 20_000 })
      .toBe(true);
    return rows[0].lsn;
  } finally {
    await client.end();
  }
}

test.for([14, 15, 16, 17, 18] as const)(
  'PostgreSQL %i, copied and recovered to a position - holds what was there then, touches nothing',
  async version => {
    await using cluster = await startTestCluster({
      version,
      settings: { ...archiving, max_connections: 31, track_commit_timestamp: 'on' },
    });
    await cluster.query('create table public.t as select generate_series(1, 1000) n');
    const copy = await copyCluster(cluster, 'copy');
    await cluster.query('insert into public.t select generate_series(1, 500)');
    const lsn = await archive(cluster);
    await cluster.query('delete from public.t');
    await archive(cluster);
    // What a copy brings along from production must not wake up in it.
    await appendFile(
      join(copy, 'postgresql.auto.conf'),
      "archive_mode = 'always'\narchive_command = 'touch ../woken'\nrecovery_end_command = 'touch ../woken'\nprimary_conninfo = 'host=127.0.0.1'\nlisten_addresses = '*'\nrecovery_target_name = 'none'\nexternal_pid_file = '../woken'\n",
    );
    const archived = (await readdir(join(cluster.directory, 'archive'))).length;

    await using server = await startIsolatedServer(
      options(cluster, copy, { kind: 'lsn', lsn, inclusive: true }),
    );
    const seen: ReplayProgress[] = [];
    const reached = await server.waitForTarget({ onProgress: progress => void seen.push(progress) });
    expect(reached).toMatchObject({ state: 'paused', replayTime: expect.stringMatching(/^2\d{3}-.*Z$/) });
    const client = await server.connect('postgres');
    try {
      expect((await client.query('select count(*)::int as n from public.t')).rows).toEqual([{ n: 1500 }]);
      const { rows } = await client.query(`
      select name, setting from pg_settings
      where name in ('listen_addresses', 'archive_mode', 'primary_conninfo', 'max_connections', 'external_pid_file', 'fsync') order by 1`);
      expect(Object.fromEntries(rows.map(row => [row.name, row.setting]))).toEqual({
        archive_mode: 'off',
        external_pid_file: '',
        fsync: 'off',
        listen_addresses: '',
        max_connections: '31',
        primary_conninfo: '',
      });
    } finally {
      await client.end();
    }
    await server.stop();
    expect(await runningServer(copy)).toBeNull();
    expect(existsSync(join(cluster.directory, 'woken'))).toBe(false);
    expect((await readdir(join(cluster.directory, 'archive'))).length).toBe(archived);
    expect(existsSync(String(server.connection.host))).toBe(false);

    // From where it stopped on, to the end of the log, and open.
    await using again = await startIsolatedServer({
      ...options(cluster, copy, { kind: 'latest' }, 'promote'),
      disposable: false,
    });
    expect(await again.waitForTarget()).toMatchObject({ state: 'open' });
    const writer = await again.connect('postgres');
    await writer.query('insert into public.t values (1)');
    expect((await writer.query('select count(*)::int as n from public.t')).rows).toEqual([{ n: 1 }]);
    await writer.end();
    expect(existsSync(join(cluster.directory, 'woken'))).toBe(false);
  },
);

test('a target beyond the log, and no log at all - RECOVERY_FAILED with the reason and the log', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: archiving });
  const copy = await copyCluster(cluster, 'copy');
  await archive(cluster);
  await using server = await startIsolatedServer(
    options(cluster, copy, { kind: 'lsn', lsn: 'FF/0', inclusive: true }),
  );
  await expect(server.waitForTarget()).rejects.toMatchObject({
    code: 'RECOVERY_FAILED',
    message: expect.stringContaining('recovery ended before configured recovery target'),
    hint: expect.stringMatching(/earlier one.*aishell-recovery\.log/),
  });
  const other = await copyCluster(cluster, 'other');
  const without = options(cluster, other, { kind: 'latest' });
  await using blind = await startIsolatedServer({
    ...without,
    settings: { ...without.settings, restore_command: 'false' },
  });
  await expect(blind.waitForTarget()).rejects.toMatchObject({
    code: 'RECOVERY_FAILED',
    message: expect.stringContaining('checkpoint'),
  });
});

test('production raised max_connections after the backup - the recovery goes on with the higher value', async () => {
  await using cluster = await startTestCluster({
    version: 17,
    settings: { ...archiving, max_connections: 20 },
  });
  await cluster.query('create table public.t (n int)');
  const copy = await copyCluster(cluster, 'copy');
  await cluster.query('alter system set max_connections = 60');
  await cluster.restart();
  await cluster.query('insert into public.t values (1)');
  const lsn = await archive(cluster);
  await cluster.query('insert into public.t values (2)');
  await archive(cluster);
  await using server = await startIsolatedServer(
    options(cluster, copy, { kind: 'lsn', lsn, inclusive: true }),
  );
  expect(await server.waitForTarget()).toMatchObject({ state: 'paused' });
  const client = await server.connect('postgres');
  expect((await client.query('select count(*)::int as n from public.t')).rows).toEqual([{ n: 1 }]);
  expect((await client.query('show max_connections')).rows).toEqual([{ max_connections: '60' }]);
  await client.end();
});

test('without hot standby - stops at its target, and says so', async () => {
  await using cluster = await startTestCluster({ version: 16, settings: archiving });
  const copy = await copyCluster(cluster, 'copy');
  const lsn = await archive(cluster);
  await cluster.query('create table public.later ()');
  await archive(cluster);
  const request = options(cluster, copy, { kind: 'lsn', lsn, inclusive: true }, 'shutdown');
  await using server = await startIsolatedServer({ ...request, hotStandby: false });
  expect(await server.waitForTarget()).toMatchObject({ state: 'stopped' });
});

test('a cancelled wait - ends at once, and the server with stop', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: archiving });
  const copy = await copyCluster(cluster, 'copy');
  const base = options(cluster, copy, { kind: 'latest' });
  const slow = { ...base, settings: { ...base.settings, restore_command: 'sleep 60' } };
  await using server = await startIsolatedServer(slow);
  await expect(server.waitForTarget({ signal: AbortSignal.timeout(500) })).rejects.toMatchObject({
    name: 'TimeoutError',
  });
  expect(await runningServer(copy)).not.toBeNull();
  await server.stop('immediate');
  expect(await runningServer(copy)).toBeNull();
});

const child = fileURLToPath(new URL('../support/isolated-child.ts', import.meta.url));

test.for(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
  'the program ended by %s - its server ends too',
  async signal => {
    await using cluster = await startTestCluster({ version: 18, settings: archiving });
    const copy = await copyCluster(cluster, 'copy');
    await archive(cluster);
    const program = spawn(
      process.execPath,
      [child, JSON.stringify(options(cluster, copy, { kind: 'consistent' }))],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    expect(await Promise.race([once(program.stdout, 'data').then(String), once(program, 'exit')])).toBe(
      'ready\n',
    );
    expect(await runningServer(copy)).not.toBeNull();
    program.kill(signal);
    await once(program, 'exit');
    expect(program.signalCode).toBe(signal);
    await expect.poll(() => runningServer(copy), { timeout: 10_000 }).toBeNull();
  },
);

test('a server left over by an earlier run - is replaced; one of somebody else - is refused', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: archiving });
  const copy = await copyCluster(cluster, 'copy');
  await archive(cluster);
  const request = options(cluster, copy, { kind: 'consistent' });
  const first = await startIsolatedServer(request);
  await first.waitForTarget();
  const before = await runningServer(copy);
  await using second = await startIsolatedServer(request);
  expect(await second.waitForTarget()).toMatchObject({ state: 'paused' });
  expect((await runningServer(copy))?.pid).not.toBe(before?.pid);
  expect(existsSync(String(before?.socketDirectory))).toBe(false);
  await expect(
    startIsolatedServer(options(cluster, cluster.dataDirectory, { kind: 'latest' })),
  ).rejects.toMatchObject({ code: 'TARGET_RUNNING' });
  expect(await cluster.pid()).not.toBeNull();
  await first.stop();
  expect(await readFile(second.logFile, 'utf8')).toContain('recovery');
  await rm(second.logFile);
});
