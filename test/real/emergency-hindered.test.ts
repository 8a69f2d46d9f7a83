import { existsSync } from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import type { ResumeReport } from '../../src/operations/emergency/resume-writes.ts';
import { emergencyStatus, reportOf, resumeWrites, stopWrites } from '../support/emergency.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { configureEmergency, dumpControls } from '../support/server-controls.ts';

async function allowAlterSystem(cluster: TestCluster, value: 'on' | 'off'): Promise<void> {
  await appendFile(join(cluster.dataDirectory, 'postgresql.conf'), `allow_alter_system = ${value}\n`);
  await cluster.query('select pg_reload_conf()');
  const shown = async (): Promise<unknown> =>
    (await cluster.query<{ allow_alter_system: string }>('show allow_alter_system'))[0]?.allow_alter_system;
  for (let tries = 0; (await shown()) !== value; tries += 1) {
    if (tries === 100) throw new Error('the configuration is not read');
    await sleep(20);
  }
}

test('a change cannot be put back - the stop stays on record and the page on, and resume does it when it can', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protect(cluster, { archiving: false });
  const page = instance.path('page.html');
  await configureEmergency(instance, [`maintenance_file: ${page}`]);
  const { settings: before } = await dumpControls(cluster);
  await stopWrites(instance);
  await allowAlterSystem(cluster, 'off');
  const done = await instance.run(['emergency', 'resume-writes']);
  expect(done.exitCode).toBe(3);
  const report = reportOf<ResumeReport>(done);
  expect(report).toMatchObject({ resumed: true, writable: false });
  expect(report.problems).toEqual([
    expect.stringContaining('default_transaction_read_only could not be put back'),
    expect.stringContaining('autovacuum could not be put back'),
    expect.anything(),
    expect.stringContaining('the stop stays on record'),
  ]);
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: true });
  expect(existsSync(page)).toBe(true);
  await allowAlterSystem(cluster, 'on');
  expect(await resumeWrites(instance)).toMatchObject({ resumed: true, writable: true });
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: false, problems: [] });
  expect(existsSync(page)).toBe(false);
  const { settings: after } = await dumpControls(cluster);
  const others = (all: unknown): unknown =>
    (all as { name: string }[]).filter(({ name }) => name !== 'allow_alter_system');
  expect(others(after)).toEqual(others(before));
});

test.each(['soft', 'hard'])(
  'level %s on a server with room for two more sessions - is done, and who was writing is ended',
  async level => {
    const settings = { max_connections: 12, superuser_reserved_connections: 3, max_wal_senders: 0 };
    await using cluster = await startTestCluster({ version: 16, settings });
    await cluster.query('create role app login');
    await cluster.query('create table goods (n int)');
    await cluster.query('grant insert on goods to app');
    const instance = await protect(cluster, { archiving: false });
    const before = await dumpControls(cluster);
    const clients = await fill(cluster);
    const [writer] = clients;
    await writer!.query('begin');
    await writer!.query('insert into goods values (1)');
    // Another of the sessions that are kept for superusers.
    const admin = await cluster.connect();
    const report = await stopWrites(instance, '--level', level);
    expect(report.ended).toContainEqual(expect.objectContaining({ user: 'app', wrote: true }));
    expect(report.proof).toMatchObject({ transactions: 0 });
    // There is another database only where there is room to look into it.
    expect(report.problems.filter(problem => !/^(the log|superusers can still write)/.test(problem))).toEqual(
      [],
    );
    await admin.end();
    for (const client of clients) await client.end().catch(() => undefined);
    expect(await resumeWrites(instance)).toMatchObject({ resumed: true, writable: true });
    expect(await cluster.query('select from goods')).toEqual([]);
    expect(await dumpControls(cluster)).toEqual(before);
  },
);

test.each(['soft', 'hard'])(
  'level %s, a transaction that is open in the console - is ended as any other is',
  async level => {
    await using cluster = await startTestCluster({ version: 18 });
    await cluster.query('create table goods (n int)');
    const instance = await protect(cluster, { archiving: false });
    const open = { ...cluster.connection, application_name: 'aishell sql' };
    const client = new pg.Client(open);
    client.on('error', () => undefined);
    await client.connect();
    onTestFinished(() => client.end().catch(() => undefined));
    await client.query('begin');
    await client.query('insert into goods values (1)');
    const report = await stopWrites(instance, '--level', level);
    expect(report.ended).toContainEqual(expect.objectContaining({ application: 'aishell sql', wrote: true }));
    await expect(client.query('commit')).rejects.toThrow();
    await resumeWrites(instance);
    expect(await cluster.query('select from goods')).toEqual([]);
  },
);

/** Takes every session that others than superusers may have. */
async function fill(cluster: TestCluster): Promise<pg.Client[]> {
  const clients: pg.Client[] = [];
  onTestFinished(async () => {
    for (const client of clients) await client.end().catch(() => undefined);
  });
  while (clients.length < 20) {
    const client = new pg.Client({ ...cluster.connection, user: 'app' });
    client.on('error', () => undefined);
    try {
      await client.connect();
    } catch {
      return clients;
    }
    clients.push(client);
  }
  throw new Error('the server takes more sessions than it should');
}
