import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runCommand } from '../../src/base/run-command.ts';
import { connect } from '../../src/engines/postgres/connection.ts';
import { detectService } from '../../src/engines/postgres/service.ts';
import { findBinaries } from '../../src/engines/postgres/service-binaries.ts';
import { debianProgram } from '../support/debian-postgres.ts';
import { startTestCluster } from '../support/postgres.ts';

async function setting(
  cluster: { connection: { host: string; port: number; user: string } },
  name: string,
): Promise<string> {
  const client = await connect(cluster.connection);
  try {
    return (await client.query(`select current_setting($1) as value`, [name])).rows[0].value;
  } finally {
    await client.end();
  }
}

test.for([14, 18] as const)(
  'PostgreSQL %i under pg_ctl - stops and starts with its options, as its owner, into its log',
  async version => {
    await using cluster = await startTestCluster({ version });
    await cluster.stop();
    // Started by hand, with options that no file has.
    const odd = `it's "quoted" $HOME`;
    const argv = [
      join(cluster.binaries.binDirectory, 'pg_ctl'),
      '-D',
      cluster.dataDirectory,
      '-l',
      cluster.logFile,
      '-w',
      '-o',
      `-c cluster_name=named -c work_mem=7MB -c aishell.odd='${odd.replaceAll("'", `'\\''`)}'`,
      'start',
    ];
    const user = cluster.user === null ? {} : { uid: cluster.user.uid, gid: cluster.user.gid };
    const started = await runCommand(argv, {
      ...user,
      cwd: cluster.directory,
      env: { PATH: '/usr/bin:/bin', OWN: 'kept' },
    });
    expect(started.exitCode).toBe(0);

    const service = await detectService(cluster.dataDirectory, {
      setting: { kind: 'pg_ctl' },
      serverAnswers: true,
    });
    expect(service).toMatchObject({
      kind: 'pg_ctl',
      description: expect.stringContaining(cluster.binaries.binDirectory),
    });
    expect(await service.isRunning()).toBe(true);
    await service.stop();
    expect(await service.isRunning()).toBe(false);
    expect(await cluster.pid()).toBeNull();
    await service.stop();
    // A restored directory does not have these files; what was found before must be enough.
    await rm(join(cluster.dataDirectory, 'postmaster.opts'));
    const logged = (await readFile(cluster.logFile, 'utf8')).length;
    await service.start();
    await service.start();
    expect(await setting(cluster, 'work_mem')).toBe('7MB');
    expect(await setting(cluster, 'cluster_name')).toBe('named');
    expect(await setting(cluster, 'aishell.odd')).toBe(odd);
    expect((await readFile(cluster.logFile, 'utf8')).length).toBeGreaterThan(logged);
    const environment = await readFile(`/proc/${await cluster.pid()}/environ`, 'utf8');
    expect(environment).toContain('OWN=kept');
    await service.stop({ mode: 'immediate' });

    // What a person is told to paste does the same: for root it changes to the server's user by itself.
    const paste = (command: string) => runCommand(['/bin/sh', '-c', command], {});
    expect((await paste(service.startCommand)).exitCode).toBe(0);
    expect(await setting(cluster, 'aishell.odd')).toBe(odd);
    expect((await paste(service.stopCommand)).exitCode).toBe(0);
    expect(await service.isRunning()).toBe(false);
  },
);

test('a server that was killed - its stale postmaster.pid is no running server, and it starts again', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  const file = join(cluster.dataDirectory, 'postmaster.pid');
  const stale = await readFile(file, 'utf8');
  await cluster.kill9();
  await writeFile(file, stale.replace(/^\d+/, String(process.pid)));
  const service = await detectService(cluster.dataDirectory, { setting: { kind: 'pg_ctl' } });
  expect(await service.isRunning()).toBe(false);
  await rm(file);
  await service.start();
  expect(await service.isRunning()).toBe(true);
});

test('a server that cannot start - SERVICE_FAILED with its own words', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  await cluster.stop();
  const service = await detectService(cluster.dataDirectory);
  await writeFile(join(cluster.dataDirectory, 'postgresql.auto.conf'), 'max_connections = nonsense\n');
  await expect(service.start()).rejects.toMatchObject({
    code: 'SERVICE_FAILED',
    message: expect.stringContaining('max_connections'),
  });
});

test('configured commands - are run; a failing one is told', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const pgCtl = join(cluster.binaries.binDirectory, 'pg_ctl');
  const as =
    cluster.user === null
      ? ''
      : `setpriv --reuid ${cluster.user.uid} --regid ${cluster.user.gid} --clear-groups `;
  const command = (action: string): string =>
    `cd / && ${as}${pgCtl} -D ${cluster.dataDirectory} -w ${action} >/dev/null`;
  const service = await detectService(cluster.dataDirectory, {
    setting: { kind: 'commands', start: command('start'), stop: command('stop') },
  });
  await service.stop();
  expect(await cluster.pid()).toBeNull();
  await service.start();
  expect(await cluster.pid()).not.toBeNull();
  const broken = await detectService(cluster.dataDirectory, {
    setting: { kind: 'commands', start: 'true', stop: 'echo no >&2; exit 7' },
  });
  await expect(broken.stop()).rejects.toMatchObject({
    code: 'SERVICE_FAILED',
    message: expect.stringContaining('exit code 7: no'),
  });
});

test('a server that answers but is not among our processes - SERVICE_UNKNOWN', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await cluster.stop();
  await expect(detectService(cluster.dataDirectory, { serverAnswers: true })).rejects.toMatchObject({
    code: 'SERVICE_UNKNOWN',
  });
  await expect(
    detectService(cluster.dataDirectory, { setting: { kind: 'pg_ctlcluster' } }),
  ).rejects.toMatchObject({ code: 'SERVICE_UNKNOWN' });
  await expect(
    detectService(cluster.dataDirectory, { setting: { kind: 'systemd', unit: null } }),
  ).rejects.toMatchObject({ code: 'SERVICE_UNKNOWN' });
});

test('binaries - of the asked version only', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const found = await findBinaries(14, { dataDirectory: cluster.dataDirectory, env: {} });
  expect(found).toMatchObject({
    directory: cluster.binaries.binDirectory,
    version: expect.stringMatching(/^14\./),
  });
  await expect(findBinaries(13, { configured: found.directory })).rejects.toMatchObject({
    code: 'PROGRAM_NOT_FOUND',
    hint: expect.stringContaining(`${found.directory} (has version 14.`),
  });
});

test("Debian's pg_ctlcluster - is found by the directory, stops and starts", async context => {
  debianProgram(context, 'postgres');
  if (process.geteuid?.() !== 0) return context.skip('only root makes clusters that Debian starts');
  const name = `aishell${process.pid}`;
  const created = await runCommand(['pg_createcluster', '15', name, '--start-conf', 'manual'], {
    timeoutMs: 120_000,
  });
  expect(created, created.stderr).toMatchObject({ exitCode: 0 });
  try {
    const directory = `/var/lib/postgresql/15/${name}`;
    const stopped = await detectService(directory);
    expect(stopped).toMatchObject({
      kind: 'pg_ctlcluster',
      startCommand: `pg_ctlcluster 15 ${name} start`,
    });
    await stopped.start();
    expect(await stopped.isRunning()).toBe(true);
    expect((await detectService(directory, { serverAnswers: true })).kind).toBe('pg_ctlcluster');
    await stopped.stop();
    expect(await stopped.isRunning()).toBe(false);
    await stopped.stop();
  } finally {
    await runCommand(['pg_dropcluster', '--stop', '15', name], { timeoutMs: 120_000 });
  }
}, 120_000);
