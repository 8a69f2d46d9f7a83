import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import { runCli } from '../support/cli.ts';
import {
  type CliFailure,
  failureOf,
  openCopy,
  protect,
  resultOf,
  type TestInstance,
  untilArchived,
} from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

interface Mark {
  readonly xid: string;
  readonly lsn: string;
  /** Just after its commit. */
  readonly time: string;
  readonly segment: string;
}

let cluster: TestCluster;
let instance: TestInstance;
/** Before the backup, and after it, each in a segment of its own. */
let early: Mark;
const marks: Mark[] = [];
let aborted: string;

beforeAll(async () => {
  // Without commits of its own: what is behind the last one here must be nothing.
  cluster = await startTestCluster({ version: 17, settings: { autovacuum: 'off' } });
  instance = await protect(cluster);
  await cluster.query('create table marks (id int primary key)');
  early = await mark(0);
  await instance.backup();
  for (const id of [1, 2, 3, 4]) marks.push(await mark(id));
  const client = await cluster.connect();
  await client.query('begin');
  await client.query('insert into marks values (-1)');
  aborted = (await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid')).rows[0]!.xid;
  await client.query('rollback');
  await client.end();
  marks.push(await mark(5));
  await untilArchived(instance, marks.at(-1)!.segment);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** One row in a transaction of its own, the last one of its segment. */
async function mark(id: number): Promise<Mark> {
  const client = await cluster.connect();
  try {
    await client.query('begin');
    await client.query('insert into marks values ($1)', [id]);
    const { rows } = await client.query<{ xid: string; lsn: string; segment: string }>(
      'select pg_current_xact_id()::text as xid, pg_current_wal_lsn()::text as lsn, pg_walfile_name(pg_current_wal_lsn()) as segment',
    );
    await client.query('commit');
    const after = await client.query<{ time: string }>('select clock_timestamp()::text as time');
    await client.query('select pg_switch_wal()');
    return { ...rows[0]!, time: after.rows[0]!.time };
  } finally {
    await client.end();
  }
}

/** Each restore completes a segment, so the log of the second one may end later. */
function withoutSegments(failure: CliFailure): CliFailure {
  return {
    ...failure,
    message: failure.message.replaceAll(/\b[0-9A-F]{24}\b|\b[0-9A-F]+\/[0-9A-F]+000000\b/g, '…'),
  };
}

/** Refused in place and beside, by the plan alone: the server runs on, and no directory was made. */
async function refused(target: readonly string[]): Promise<CliFailure> {
  const pid = await cluster.pid();
  const beside = (await readdir(cluster.directory)).sort();
  const confirmed = ['--confirm', 'restore shop', '--yes'];
  const inPlace = failureOf(await instance.run(['backup', 'restore', ...target, ...confirmed]));
  const copy = failureOf(
    await instance.run(['backup', 'restore', ...target, '--target', instance.path('never')]),
  );
  expect(withoutSegments(copy)).toEqual(withoutSegments(inPlace));
  expect(await cluster.pid()).toBe(pid);
  expect((await readdir(cluster.directory)).sort()).toEqual(beside);
  expect(inPlace.message).toMatch(/^[^A-Z\n].{10,300}[^.]$/);
  expect(inPlace.hint).toMatch(/^[A-Z`].{10,}/);
  return inPlace;
}

async function planned(target: readonly string[]): Promise<RestoreReport> {
  return resultOf(await instance.run(['backup', 'restore', ...target, '--dry-run']));
}

test('before the first backup, by time, position and transaction - refused with the earliest that can be reached', async () => {
  for (const target of [
    ['--point-in-time', early.time],
    ['--lsn', early.lsn],
    ['--lsn', '0/1000028'],
  ]) {
    const failure = await refused(target);
    expect(failure).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
    expect(failure.hint).toMatch(/earliest.*20\d\d-/);
  }
  expect(await refused(['--xid', early.xid])).toMatchObject({ exitCode: 6, code: 'LOG_NOT_FOUND' });
});

test('after the end of the log, in the future - refused with where the log ends', async () => {
  const beyond = await refused(['--lsn', 'F/0']);
  expect(beyond).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
  expect(beyond.hint).toContain('--latest');
  const future = await refused(['--point-in-time', new Date(Date.now() + 3_600_000).toISOString()]);
  expect(future).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
  expect(future.message).toContain('future');
});

test('a transaction that is not in the log, one that was rolled back - refused, each for its reason', async () => {
  expect(await refused(['--xid', '4000000'])).toMatchObject({ exitCode: 6, code: 'LOG_NOT_FOUND' });
  const rolledBack = await refused(['--xid', aborted]);
  expect(rolledBack).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
  expect(rolledBack.message).toContain('rolled back');
});

test('the plan says which transaction is the last one kept and which the first one dropped', async () => {
  const [first, second] = marks;
  const before = await planned(['--xid', second!.xid]);
  expect(before.target.lastKept?.xid).toBe(Number(first!.xid));
  expect(before.target.firstDropped?.xid).toBe(Number(second!.xid));
  const after = await planned(['--xid', first!.xid, '--after']);
  expect(after.target.lastKept?.xid).toBe(Number(first!.xid));
  const time = await planned(['--point-in-time', first!.time]);
  expect(time.target.lastKept?.xid).toBe(Number(first!.xid));
  expect(time.target.firstDropped?.xid).toBe(Number(second!.xid));
});

test('a segment in the middle is gone - what lies behind it is refused, what lies before it is reached', async () => {
  const gap = marks[2]!;
  const stored = (await readdir(instance.repository, { recursive: true })).find(name =>
    name.endsWith(gap.segment),
  )!;
  const hidden = instance.path('hidden segment');
  await rename(join(instance.repository, stored), hidden);
  try {
    const behind = [['--point-in-time', marks[3]!.time], ['--lsn', marks[3]!.lsn], ['--latest']];
    for (const target of behind) {
      const failure = await refused(target);
      expect(failure, target.join(' ')).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
    }
    const latest = await refused(['--latest']);
    expect(latest.message).toContain(gap.segment);
    // The way it names is one that works.
    const time = /--point-in-time "([^"]+)"/.exec(latest.hint)![1]!;
    await expectRows(['--point-in-time', time], [0, 1, 2]);
    expect(await refused(['--xid', marks[3]!.xid])).toMatchObject({ exitCode: 6 });
    await expectRows(['--point-in-time', marks[0]!.time], [0, 1]);
  } finally {
    await rename(hidden, join(instance.repository, stored));
  }
  await expectRows(['--xid', marks[3]!.xid, '--after'], [0, 1, 2, 3, 4]);
});

async function expectRows(target: readonly string[], ids: readonly number[]): Promise<void> {
  const report = await instance.restore([...target, '--target', instance.path(`copy-${ids.length}`)]);
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  const { rows } = await client.query<{ id: number }>('select id from marks order by id');
  expect(rows.map(row => row.id)).toEqual(ids);
}

test('a moment between the last commit and now - the end of the log is its state; without the server nobody knows', async () => {
  const now = new Date().toISOString();
  await expectRows(['--point-in-time', now], [0, 1, 2, 3, 4, 5]);
  const port = cluster.connection.port;
  const text = await readFile(instance.configFile, 'utf8');
  const lost = instance.path('lost.yaml');
  await writeFile(
    lost,
    text
      .replace(`127.0.0.1:${port}`, '127.0.0.1:1')
      .replace(
        '    connection:',
        `    binaries: ${cluster.binaries.binDirectory}\n    data_directory: /nonexistent\n    connection:`,
      ),
  );
  const args = ['backup', 'restore', '--point-in-time', now, '--target', instance.path('never')];
  const failure = failureOf(await runCli([...args, '--config', lost, '--json']));
  expect(failure).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
  expect(failure.hint).toContain('--latest');
});
