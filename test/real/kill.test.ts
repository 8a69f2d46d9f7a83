import { randomBytes } from 'node:crypto';
import { chown, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseKeyFile } from '../../src/crypto/key-slots.ts';
import { getLogFile } from '../../src/repository/log-archive.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { readCountedWrites } from '../../src/storage/faulty/write-counter.ts';
import { openStorage } from '../../src/storage/registry.ts';
import type { CliResult } from '../support/cli.ts';
import { protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const moments = ['before', 'middle', 'after'] as const;
type Moment = (typeof moments)[number];

let cluster: TestCluster;
let instance: TestInstance;
/** For temporary files of the program that is killed. */
let temporary: string;
/** The backups that must be there. */
const committed: string[] = [];

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18, walSegmentSizeMb: 1 });
  instance = await protect(cluster);
  temporary = instance.path('temporary');
  await mkdir(temporary);
  if (cluster.user !== null) await chown(temporary, cluster.user.uid, cluster.user.gid);
  // What does not compress makes packs of their full size: some are put while the backup is still reading.
  await cluster.query('create table noise (id int, content bytea)');
  await cluster.query('alter table noise alter content set storage external');
  await cluster.query(
    "insert into noise select n, (select string_agg(sha512((n * 100 + m)::text::bytea), '') from generate_series(1, 100) m) from generate_series(1, 5000) n",
  );
  committed.push((await instance.backup()).backup!.id);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** Runs a command that is killed at one of its writes to the storage; the writes it got to. */
async function runKilled(
  args: readonly string[],
  fault: { readonly write: number; readonly at: Moment } | null,
): Promise<{ readonly done: CliResult; readonly writes: readonly string[] }> {
  const counterFile = instance.path(`writes-${randomBytes(4).toString('hex')}`);
  const plan = { counterFile, ...(fault === null ? {} : { ...fault, action: 'kill' }) };
  const env = { AISHELL_STORAGE_FAULTS: JSON.stringify(plan), TMPDIR: temporary };
  const done = await instance.run(args, { env });
  return { done, writes: await readCountedWrites(counterFile) };
}

async function listed(): Promise<{ readonly id: string; readonly status: string }[]> {
  const { backups } = resultOf<{ backups: { id: string; status: string }[] }>(
    await instance.run(['backup', 'list']),
  );
  return backups.map(({ id, status }) => ({ id, status })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

const isManifest = (write: string | undefined): boolean =>
  /^put instances\/[^/]+\/backups\//.test(write ?? '');

test('backup create, killed before, in and after each of its writes - no half backup, the next one succeeds, all verify', async () => {
  const workers = ['--workers', '2'];
  const whole = await runKilled(['backup', 'create', ...workers], null);
  committed.push(resultOf<{ backup: { id: string } }>(whole.done).backup.id);
  expect(whole.writes.length).toBeGreaterThanOrEqual(4);
  expect(whole.writes.map(isManifest).lastIndexOf(true)).toBe(whole.writes.length - 1);
  for (let write = 1; write <= whole.writes.length; write += 1) {
    for (const at of moments) {
      const { done, writes } = await runKilled(['backup', 'create', ...workers], { write, at });
      const what = `write ${write} of ${whole.writes.length}, ${at}: ${writes.join(', ')}`;
      expect(done.signal, `${what}\n${done.stdout}${done.stderr}`).toBe('SIGKILL');
      // Once the manifest is put, the backup exists, whoever is told of it.
      if (at === 'after' && isManifest(writes[write - 1]))
        committed.push(writes[write - 1]!.split('/').at(-1)!);
      expect(await listed(), what).toEqual(committed.toSorted().map(id => ({ id, status: 'valid' })));
    }
    committed.push((await instance.backup(workers)).backup!.id);
  }
  const verified = await instance.run(['backup', 'verify', '--all']);
  expect(resultOf<{ backups: unknown[]; problems: unknown[]; logGaps: unknown[] }>(verified)).toMatchObject({
    problems: [],
    logGaps: [],
  });
  expect(
    resultOf<{ backups: { id: string }[] }>(verified)
      .backups.map(({ id }) => id)
      .toSorted(),
  ).toEqual(committed.toSorted());
  expect(await readdir(temporary)).toEqual([]);
  // A killed backup's session is gone: the server is in no backup any more, and does not keep its log for one.
  const [left] = await cluster.query<{ count: number }>(
    "select count(*)::int from pg_stat_activity where application_name like 'aishell%'",
  );
  expect(left).toEqual({ count: 0 });
});

test('wal-archive, killed before, in and after its write - the segment is whole or not there, and the next try stores it', async () => {
  // The server keeps its segments for a while; they are archived by hand instead.
  const [setting] = await cluster.query<{ archive_command: string }>('show archive_command');
  await cluster.query("alter system set archive_command = '/bin/false'");
  await cluster.query('select pg_reload_conf()');
  const data = cluster.dataDirectory;
  for (const at of moments) {
    await cluster.query('insert into noise values (0, null)');
    const [{ name }] = (await cluster.query<{ name: string }>(
      'select pg_walfile_name(pg_switch_wal()) as name',
    )) as [{ name: string }];
    const archive = ['backup', 'wal-archive', join('pg_wal', name)];
    const counterFile = instance.path(`writes-${randomBytes(4).toString('hex')}`);
    const env = { AISHELL_STORAGE_FAULTS: JSON.stringify({ write: 1, at, action: 'kill', counterFile }) };
    const killed = await instance.run(archive, { env, cwd: data });
    expect(killed.signal, `${at}: ${killed.stdout}${killed.stderr}`).toBe('SIGKILL');
    expect((await readCountedWrites(counterFile))[0]).toMatch(new RegExp(`^put .*/${name}$`));
    const source = await readFile(join(data, 'pg_wal', name));
    expect(await archivedAs(name, source)).toBe(at === 'after' ? 'whole' : 'absent');
    for (const outcome of [at === 'after' ? 'same' : 'stored', 'same']) {
      expect(resultOf(await instance.run(archive, { cwd: data }))).toMatchObject({ name, outcome });
      expect(await archivedAs(name, source)).toBe('whole');
    }
  }
  await cluster.query(
    `alter system set archive_command = '${setting!.archive_command.replaceAll("'", "''")}'`,
  );
  await cluster.query('select pg_reload_conf()');
  expect((await instance.run(['backup', 'verify', '--all'])).exitCode).toBe(0);
});

/** Whether the archive has a segment as the server has it; one that does not open fails the test. */
async function archivedAs(name: string, source: Uint8Array): Promise<'absent' | 'whole' | 'different'> {
  const key = parseKeyFile(await readFile(instance.init.keyFile!, 'utf8'), 'aishell.key');
  const repository = await openRepository(openStorage({ kind: 'local', path: instance.repository }), key);
  const owner = { instance: instance.name, systemIdentifier: instance.init.systemIdentifier };
  const bytes = await getLogFile(repository, owner, name);
  if (bytes === null) return 'absent';
  return Buffer.from(bytes).equals(source) ? 'whole' : 'different';
}
