import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseKeyFile } from '../../src/crypto/key-slots.ts';
import { getLogFile, putLogFile } from '../../src/repository/log-archive.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/registry.ts';
import {
  failureOf,
  openCopy,
  protect,
  shell,
  type TestInstance,
  untilArchived,
} from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

/** Writes `segments` segments, at the end of each of them a row of its own, and returns the names of these segments. */
async function writeLog(instance: TestInstance, segments: number): Promise<string[]> {
  const { cluster } = instance;
  const names: string[] = [];
  for (let part = 0; part < segments; part += 1) {
    await cluster.query(
      "insert into noise select string_agg(sha512((random() * 1e9)::text::bytea), '') from generate_series(1, 8000)",
    );
    await cluster.query('insert into marks select coalesce(max(n), 0) + 1 from marks');
    const [row] = await cluster.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name');
    names.push(row!.name);
  }
  await untilArchived(instance, names.at(-1)!);
  return names;
}

async function protectedCluster(
  version: 14 | 15 | 16 | 17 | 18,
  walSegmentSizeMb = 1,
): Promise<TestInstance> {
  const cluster = await startTestCluster({ version, walSegmentSizeMb });
  const instance = await protect(cluster);
  await cluster.query('create table noise (content bytea)');
  await cluster.query('create table marks (n int primary key)');
  await instance.backup();
  return instance;
}

async function marksOf(
  cluster: TestCluster,
  report: Awaited<ReturnType<TestInstance['restore']>>,
): Promise<number> {
  await using copy = await openCopy(cluster, report);
  const { rows } = await (await copy.connect()).query<{ n: number }>('select count(*)::int as n from marks');
  return rows[0]!.n;
}

const faults = (plan: object): { env: Record<string, string> } => ({
  env: { AISHELL_STORAGE_FAULTS: JSON.stringify(plan) },
});

describe.for([15, 18] as const)('PostgreSQL %i', version => {
  test('a storage that is slow, stops answering or has lost a segment - the server waits, and never opens too early', async () => {
    const instance = await protectedCluster(version);
    await using cluster = instance.cluster;
    const names = await writeLog(instance, 12);
    const target = (name: string): string[] => [
      'backup',
      'restore',
      '--latest',
      '--target',
      instance.path(name),
    ];

    const slow = await instance.run(target('slow'), faults({ delayMs: 40 }));
    const report = slow.json.at(-1)?.result as Awaited<ReturnType<TestInstance['restore']>>;
    expect(slow.exitCode, slow.stdout).toBe(0);
    expect(await marksOf(cluster, report)).toBe(12);
    expect(report.work).toMatchObject({
      replay: { seconds: expect.any(Number) },
      fetch: { bytes: expect.any(Number) },
    });
    expect(report.work!.fetch!.bytes).toBeGreaterThan(11 * 1024 * 1024);
    expect(
      (await readdir(join(instance.path('slow'), 'pg_wal'))).filter(name => /^0000000[1].{16}$/.test(name)),
    ).toEqual([]);

    const inTheMiddle = `/log/.*${names[6]}$`;
    for (const [fault, code] of [
      ['UNREACHABLE', 'STORAGE_UNREACHABLE'],
      ['flip', 'CORRUPT'],
    ] as const) {
      const failed = await instance.run(target(fault), faults({ reads: { fault, key: inTheMiddle } }));
      expect(failureOf(failed), fault).toMatchObject({ code });
      expect(await readdir(cluster.directory)).not.toContain(fault);
    }
  });

  test('a segment whose content is damaged though its seal is whole - the recovery fails, nothing passes for the end', async () => {
    const instance = await protectedCluster(version);
    await using cluster = instance.cluster;
    const names = await writeLog(instance, 8);
    await damageContent(instance, names[4]!);
    const failed = failureOf(
      await instance.run(['backup', 'restore', '--latest', '--target', instance.path('copy')]),
    );
    expect(failed).toMatchObject({
      code: 'RECOVERY_FAILED',
      message: expect.stringMatching(/ended at|damaged/),
    });
    expect(await readdir(cluster.directory)).not.toContain('copy');
    // What lies before it is reached all the same.
    const [{ lsn }] = (await cluster.query<{ lsn: string }>(
      `select ('x' || substr('${names[4]}', 9, 8))::bit(32)::int || '/' || to_hex(('x' || substr('${names[4]}', 17, 8))::bit(32)::int * 1048576 + 40) as lsn`,
    )) as [{ lsn: string }];
    const report = await instance.restore(['--lsn', lsn, '--target', instance.path('before')]);
    expect(await marksOf(cluster, report)).toBe(4);
  });

  test('a target exactly at the end of the log - counts as reached', async () => {
    const instance = await protectedCluster(version);
    await using cluster = instance.cluster;
    await cluster.query('insert into marks values (1)');
    const [row] = await cluster.query<{ lsn: string; name: string }>(
      'select lsn::text, pg_walfile_name(lsn) as name from pg_switch_wal() lsn',
    );
    await untilArchived(instance, row!.name);
    const report = await instance.restore(['--lsn', row!.lsn, '--target', instance.path('copy')]);
    expect(await marksOf(cluster, report)).toBe(1);
  });
});

test('a segment turns out to be damaged in the middle of a restore in place - the old state starts with the printed command', async () => {
  const instance = await protectedCluster(18);
  await using cluster = instance.cluster;
  const names = await writeLog(instance, 8);
  const before = await readdir(cluster.directory);
  const done = await instance.run(
    ['backup', 'restore', '--latest', '--full', '--confirm', 'restore shop', '--yes'],
    faults({ reads: { fault: 'flip', key: `/log/.*${names[4]}$` } }),
  );
  const failed = failureOf(done);
  expect(failed).toMatchObject({ exitCode: 9, code: 'CORRUPT' });
  expect(done.stdout).toContain('Server stopped');
  const command = /start it with: (.+)$/.exec(failed.hint)?.[1] ?? 'false';
  expect((await shell(cluster, command)).exitCode).toBe(0);
  expect(await cluster.query('select count(*)::int as n from marks')).toEqual([{ n: 8 }]);
  expect(await readdir(cluster.directory)).toEqual(before);
});

test('the end of the log, rewound in place - everything that was committed is there', async () => {
  const instance = await protectedCluster(18);
  await using cluster = instance.cluster;
  await writeLog(instance, 3);
  await cluster.query('insert into marks values (1000)');
  const report = await instance.restore(['--latest', '--rewind']);
  expect(report.way).toMatchObject({ kind: 'rewind' });
  expect(report.work).toMatchObject({ rewrite: expect.anything(), fixedSeconds: expect.any(Number) });
  expect(await cluster.query('select count(*)::int as n from marks')).toEqual([{ n: 4 }]);
});

test('segments of 64 MB - are replayed as others are', async () => {
  const instance = await protectedCluster(18, 64);
  await using cluster = instance.cluster;
  await writeLog(instance, 2);
  const report = await instance.restore(['--latest', '--target', instance.path('copy')]);
  expect(await marksOf(cluster, report)).toBe(2);
});

/** Puts a segment in the archive's place that is sealed as it must be, but has nonsense in its middle. */
async function damageContent(instance: TestInstance, name: string): Promise<void> {
  const key = parseKeyFile(await readFile(instance.init.keyFile!, 'utf8'), 'aishell.key');
  const repository = await openRepository(openStorage({ kind: 'local', path: instance.repository }), key);
  const owner = { instance: instance.name, systemIdentifier: instance.init.systemIdentifier };
  const bytes = Buffer.from((await getLogFile(repository, owner, name))!);
  bytes.fill(0x5a, 100_000, 101_000);
  for (const path of await readdir(instance.repository, { recursive: true }))
    if (path.includes('/log/') && path.endsWith(name)) await rm(join(instance.repository, path));
  await putLogFile(repository, { ...owner, name, bytes, level: 3 });
}
