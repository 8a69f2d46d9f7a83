import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { currentWalPosition, startBaseBackup, switchWal } from '../../src/engines/postgres/base-backup.ts';
import { connect, queryRow } from '../../src/engines/postgres/connection.ts';
import { readControlFile } from '../../src/engines/postgres/control-file.ts';
import { readServerFacts } from '../../src/engines/postgres/server-facts.ts';
import { readDatabaseTotals } from '../../src/engines/postgres/server-facts-totals.ts';
import { startTestCluster } from '../support/postgres.ts';

const versions = [14, 15, 16, 17, 18] as const;

test.for(versions)(
  'PostgreSQL %i - its facts agree with its control file, and a base backup starts and stops',
  async version => {
    await using cluster = await startTestCluster({ version, walSegmentSizeMb: version === 16 ? 1 : 16 });
    const client = await connect(cluster.connection);
    try {
      await client.query('create table public.t as select 1 as n; create index on public.t (n)');
      await client.query('create database "we ird""db"');
      const facts = await readServerFacts(client);
      const control = await readControlFile(cluster.dataDirectory);
      expect(facts).toMatchObject({
        majorVersion: version,
        systemIdentifier: control.systemIdentifier,
        timeline: 1,
        inRecovery: false,
        dataDirectory: cluster.dataDirectory,
        configFile: `${cluster.dataDirectory}/postgresql.conf`,
        blockSize: control.blockSize,
        walSegmentSize: control.walSegmentSize,
        relationSegmentBlocks: control.relationSegmentBlocks,
        dataChecksums: true,
        maxConnections: control.maxConnections,
        archiveMode: 'off',
        archiveCommand: '',
        postmasterPid: await cluster.pid(),
        userIsSuperuser: true,
        userMayBackUp: true,
        bootstrapSuperuser: 'postgres',
      });
      expect(facts.tablespaceVersionDirectory).toBe(`PG_${version}_${control.catalogVersion}`);
      expect(facts.databases.map(database => database.name)).toContain('we ird"db');
      expect(facts.configurationFiles).toContain(`${cluster.dataDirectory}/postgresql.conf`);
      const totals = await readDatabaseTotals(
        database => connect(cluster.connection, { database }),
        facts.databases,
      );
      expect(totals).toMatchObject({ tables: 1, indexes: 1, skipped: [] });

      const backup = await startBaseBackup(cluster.connection, { label: 'one\ntwo', fastCheckpoint: true });
      expect(backup.logNotHeld).toBeNull();
      const slots = await queryRow<{ count: number }>(client, 'count', {
        text: `select count(*)::int as count from pg_replication_slots where temporary and restart_lsn is not null`,
      });
      expect(slots.count).toBe(1);
      await client.query('insert into public.t select generate_series(1, 1000)');
      const end = await backup.stop();
      expect(end.labelFile).toContain(`START WAL LOCATION: ${backup.startLsn} (file ${backup.startSegment})`);
      expect(end.labelFile).toContain('LABEL: one two\n');
      expect(end.tablespaceMap).toBeNull();
      expect(end.stopTime > backup.startTime).toBe(true);
      expect(end.stopSegment >= backup.startSegment).toBe(true);
      const position = await currentWalPosition(client);
      // Stopping has switched: the log goes on in the segment after.
      const { later } = await queryRow<{ later: boolean }>(client, 'compare', {
        text: 'select pg_walfile_name($1::pg_lsn + 1) > $2 as later',
        values: [position.lsn, end.stopSegment],
      });
      expect(later).toBe(true);
      await client.query('insert into public.t values (1)');
      const switched = await switchWal(client);
      expect(switched.segment > end.stopSegment).toBe(true);
      expect((await switchWal(client)).segment).toBe(switched.segment);
    } finally {
      await client.end();
    }
  },
);

test('a user without rights - is told which to grant; with them - backs up', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await cluster.query('create role "low ly" login');
  const lowly = { ...cluster.connection, user: 'low ly' };
  const client = await connect(lowly);
  try {
    await expect(readServerFacts(client)).rejects.toMatchObject({
      code: 'DATABASE_DENIED',
      hint: 'As a superuser: GRANT pg_monitor TO "low ly";',
    });
    await expect(startBaseBackup(lowly, { label: 'x', fastCheckpoint: true })).rejects.toMatchObject({
      code: 'DATABASE_DENIED',
      hint: expect.stringContaining('GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean)'),
    });
    await cluster.query('grant pg_monitor to "low ly"');
    await cluster.query(
      'grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to "low ly"',
    );
    expect(await readServerFacts(client)).toMatchObject({
      userIsSuperuser: false,
      userMayBackUp: true,
      postmasterPid: null,
    });
    const backup = await startBaseBackup(lowly, { label: 'x', fastCheckpoint: true });
    expect(backup.logNotHeld).toMatch(/replication/);
    expect((await backup.stop()).labelFile).toContain('START WAL LOCATION');
  } finally {
    await client.end();
  }
});

test('a backup given up, or whose server dies - leaves nothing behind, and its loss is told', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const backup = await startBaseBackup(cluster.connection, { label: 'x', fastCheckpoint: true });
  await backup.abort();
  await expect.poll(() => cluster.query('select * from pg_replication_slots')).toEqual([]);
  await expect.poll(() => cluster.query('select pg_is_in_backup() as b')).toEqual([{ b: false }]);

  const second = await startBaseBackup(cluster.connection, { label: 'x', fastCheckpoint: true });
  await cluster.kill9();
  await expect.poll(() => second.lost.aborted).toBe(true);
  await expect(second.stop()).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' });
});

test('cancelled while the server waits for its checkpoint - ends at once', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { checkpoint_timeout: '1h' } });
  await cluster.query('create table t as select generate_series(1, 300000) n');
  const signal = AbortSignal.timeout(300);
  const started = performance.now();
  await expect(
    startBaseBackup(cluster.connection, { label: 'x', fastCheckpoint: false, signal }),
  ).rejects.toMatchObject({ name: 'TimeoutError' });
  expect(performance.now() - started).toBeLessThan(5000);
});

test('wal_level minimal, and a database that starts up - are refused with what to do', async () => {
  await using cluster = await startTestCluster({
    version: 18,
    settings: { wal_level: 'minimal', max_wal_senders: 0 },
  });
  await expect(
    startBaseBackup(cluster.connection, { label: 'x', fastCheckpoint: true }),
  ).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    hint: expect.stringContaining('wal_level'),
  });
  await cluster.stop();
  await expect(connect(cluster.connection)).rejects.toMatchObject({
    code: 'DATABASE_UNREACHABLE',
    hint: expect.stringContaining('running'),
  });
});

test('passwords and connection limits - each failure has its code', async () => {
  await using cluster = await startTestCluster({
    version: 18,
    settings: { max_connections: 5, superuser_reserved_connections: 1 },
  });
  await cluster.query(`create role pw login password 'right'`);
  const hba = `${cluster.dataDirectory}/pg_hba.conf`;
  await writeFile(
    hba,
    `host all pw all scram-sha-256\nhost all rejected all reject\n${await readFile(hba, 'utf8')}`,
  );
  await cluster.query('select pg_reload_conf()');
  const as = (user: string, password?: string) =>
    connect(
      { ...cluster.connection, user, ...(password === undefined ? {} : { password: async () => password }) },
      { env: {} },
    );
  await expect.poll(() => as('pw', 'wrong').catch(error => error.hint)).toContain('right password');
  await expect(as('pw')).rejects.toMatchObject({ code: 'DATABASE_DENIED' });
  await expect(as('rejected')).rejects.toMatchObject({
    code: 'DATABASE_DENIED',
    hint: expect.stringContaining('pg_hba.conf'),
  });
  await (await as('pw', 'right')).end();
  await (await connect({ ...cluster.connection, user: 'pw' }, { env: { PGPASSWORD: 'right' } })).end();
  const clients = await Promise.all([1, 2, 3, 4].map(() => as('pw', 'right').catch(() => null)));
  await expect(as('pw', 'right')).rejects.toMatchObject({
    code: 'DATABASE_UNREACHABLE',
    hint: expect.stringContaining('max_connections'),
  });
  await Promise.all(clients.map(client => client?.end()));
});

test('a session of ours - has no timeout, and a function put in its way is not called', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  await cluster.query(`alter role postgres set statement_timeout = '30ms'`);
  await cluster.query(`alter role postgres set transaction_timeout = '5s'`);
  const client = await connect(cluster.connection, { applicationName: 'mine' });
  try {
    const { rows } = await client.query(`
      select name, setting from pg_settings where name in ('statement_timeout', 'transaction_timeout', 'search_path', 'application_name') order by 1`);
    expect(rows.map(row => row.setting)).toEqual(['mine', '', '0', '0']);
  } finally {
    await client.end();
  }
});
