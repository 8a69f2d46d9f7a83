import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { GoBackReport } from '../../src/operations/rewind/go-back.ts';
import {
  failureOf,
  openCopy,
  protect,
  resultOf,
  type TestInstance,
  untilArchived,
} from '../support/instance.ts';
import { checkClean, startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { fillWide, USERS, type WideState, wideSettings, wideState } from '../support/wide-database.ts';

const confirmed = ['--confirm', 'restore shop', '--yes'];

interface World {
  readonly instance: TestInstance;
  readonly before: WideState;
  readonly lost: WideState;
  readonly xid: string;
}

/** A backup, traffic, every user deleted, traffic. */
async function disaster(cluster: TestCluster): Promise<World> {
  const instance = await protect(cluster);
  await fillWide(cluster);
  await instance.backup();
  await trade(cluster);
  const before = await wideState(cluster);
  const [row] = await cluster.query<{ xid: string }>(
    'with gone as (delete from users returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
  );
  await trade(cluster);
  return { instance, before, lost: await wideState(cluster), xid: row!.xid };
}

async function trade(cluster: TestCluster): Promise<void> {
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(30);
  await traffic.stop();
}

async function timelineOf(cluster: TestCluster): Promise<number> {
  const [row] = await cluster.query<{ timeline: number }>(
    "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int as timeline",
  );
  return row!.timeline;
}

test('a disaster, rewound by the program - open, archived, restorable, and undone again', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: wideSettings });
  const { instance, before, lost, xid } = await disaster(cluster);
  const planned = resultOf<{ way: { kind: string }; rewind: { done: unknown } }>(
    await instance.run(['backup', 'restore', '--xid', xid, '--rewind', '--dry-run']),
  );
  expect(planned).toMatchObject({ way: { kind: 'rewind' }, rewind: { done: null } });

  const done = await instance.run(['backup', 'restore', '--xid', xid, '--rewind', ...confirmed]);
  const report = resultOf<Awaited<ReturnType<TestInstance['restore']>>>(done);
  expect(await wideState(cluster)).toEqual(before);
  expect(await timelineOf(cluster)).toBe(2);
  expect(report.way).toMatchObject({ kind: 'rewind' });
  expect(report.downtimeSeconds).toBeGreaterThan(0);
  expect(report.recovered?.timeline).toBe(2);
  expect(report.recovered?.pages?.damaged).toEqual([]);
  expect(report.rewind?.done?.writtenBytes).toBeGreaterThan(0);
  // A person sees that it is open before it is verified.
  const topics = done.json.map(line => String(line['topic'] ?? line['step']));
  expect(topics.indexOf('open')).toBeLessThan(topics.indexOf('all-pages'));
  const [settings] = await cluster.query<{ command: string }>(
    "select current_setting('archive_command') as command",
  );
  expect(settings!.command).toContain('wal-archive');

  // The new timeline is archived from its first byte: a copy of it can be made.
  await trade(cluster);
  const after = await wideState(cluster);
  const [name] = await cluster.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name');
  await untilArchived(instance, name!.name);
  const copied = await instance.restore(['--latest', '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, copied);
  expect(await wideState(copy)).toEqual(after);

  // And back to where it all began, with the command that the report gave.
  const elsewhere = ['backup', 'restore', '--go-back', instance.path('nowhere'), ...confirmed];
  expect(failureOf(await instance.run(elsewhere))).toMatchObject({ exitCode: 2, code: 'USAGE' });
  const goBack = ['backup', 'restore', '--go-back', report.safety!.path];
  expect(failureOf(await instance.run(goBack))).toMatchObject({ exitCode: 4, code: 'CONFIRMATION_REQUIRED' });
  const back = resultOf<GoBackReport>(await instance.run([...goBack, ...confirmed]));
  expect(back).toMatchObject({ started: true, timeline: 1, abandonedTimeline: 2 });
  expect(await wideState(cluster)).toEqual(lost);
  expect(await timelineOf(cluster)).toBe(1);
  expect((await readdir(cluster.directory)).filter(each => each.includes('aishell-safety'))).toEqual([]);
  const client = await cluster.connect();
  await checkClean(client);
  await client.end();
  // The number of the timeline given up is not used again.
  await instance.restore(['--xid', xid, '--rewind']);
  expect(await wideState(cluster)).toEqual(before);
  expect(await timelineOf(cluster)).toBe(3);
});

test('killed while it replays - no server starts, another target is refused, the same command finishes it', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: wideSettings });
  const { instance, before, lost, xid } = await disaster(cluster);
  const command = ['backup', 'restore', '--xid', xid, '--rewind', ...confirmed];
  const run = instance.start(command);
  while (!run.stdout().includes('"step":"replay"') && run.process.exitCode === null)
    await new Promise(resolve => setTimeout(resolve, 1));
  run.process.kill('SIGKILL');
  await run.done;
  await expect(cluster.start()).rejects.toThrow();
  expect(await cluster.pid()).toBeNull();
  const log = await readFile(cluster.logFile, 'utf8');
  expect(log).toMatch(/aishell: a rewind is not finished|global\/pg_control/);
  const other = ['backup', 'restore', '--latest', '--rewind', ...confirmed];
  expect(failureOf(await instance.run(other))).toMatchObject({ exitCode: 7, code: 'LOCKED' });
  const report = resultOf<{ safety: { path: string } }>(await instance.run(command));
  expect(await wideState(cluster)).toEqual(before);
  await instance.run(['backup', 'restore', '--go-back', report.safety.path, ...confirmed]);
  expect(await wideState(cluster)).toEqual(lost);
  // To the end of a log that is in no archive yet, of a server that crashed.
  await trade(cluster);
  const last = await wideState(cluster);
  await cluster.kill9();
  await instance.restore(['--latest', '--rewind']);
  expect(await wideState(cluster)).toEqual(last);
});

test('what a rewind cannot do - is refused when it is asked for, and else restored in full, with the reason', async () => {
  await using cluster = await startTestCluster({ version: 16, checksums: false, settings: wideSettings });
  const { instance, before, xid } = await disaster(cluster);
  const pid = await cluster.pid();
  const refused = failureOf(
    await instance.run(['backup', 'restore', '--xid', xid, '--rewind', ...confirmed]),
  );
  expect(refused).toMatchObject({ exitCode: 4, code: 'REWIND_IMPOSSIBLE' });
  expect(refused.message).toContain('wal_log_hints');
  expect(await cluster.pid()).toBe(pid);
  const report = await instance.restore(['--xid', xid]);
  expect(report.way).toMatchObject({ kind: 'full', rewindSeconds: null });
  expect(report.way?.reason).toContain('wal_log_hints');
  expect(await wideState(cluster)).toEqual(before);
  expect(await cluster.query('select count(*)::int as rows from users')).toEqual([{ rows: USERS }]);
});

/** Whether a directory can be made a mount point here: by root, and not in every container. */
async function mountOnItself(directory: string): Promise<AsyncDisposable | null> {
  const run = promisify(execFile);
  const mounted = await run('mount', ['--bind', directory, directory]).then(
    () => true,
    () => false,
  );
  return mounted
    ? { [Symbol.asyncDispose]: async () => void (await run('umount', ['--lazy', directory])) }
    : null;
}

test('a data directory that is a mount point - is rewound, with the safety copy in it, and goes back', async context => {
  await using cluster = await startTestCluster({ version: 17, settings: wideSettings });
  await cluster.stop();
  const mount = await mountOnItself(cluster.dataDirectory);
  if (mount === null) return context.skip('mounting is not allowed here');
  try {
    await cluster.start();
    const { instance, before, lost, xid } = await disaster(cluster);
    const refused = failureOf(
      await instance.run(['backup', 'restore', '--xid', xid, '--full', ...confirmed]),
    );
    expect(refused).toMatchObject({ exitCode: 4, code: 'TARGET_UNUSABLE' });
    const report = await instance.restore(['--xid', xid, '--rewind', '--verify-before-open']);
    expect(report.safety?.path.startsWith(`${cluster.dataDirectory}/aishell-safety-`)).toBe(true);
    expect(await wideState(cluster)).toEqual(before);
    resultOf(await instance.run(['backup', 'restore', '--go-back', report.safety!.path, ...confirmed]));
    expect(await wideState(cluster)).toEqual(lost);
    expect((await readdir(cluster.dataDirectory)).filter(name => name.startsWith('aishell-safety'))).toEqual(
      [],
    );
  } finally {
    await cluster.stop();
    await mount[Symbol.asyncDispose]();
  }
});
