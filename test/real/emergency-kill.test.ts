import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { emergencyStatus, reportOf, resumeWrites, stopArgs, stopWrites } from '../support/emergency.ts';
import { failureOf, protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { configureEmergency, dumpControls } from '../support/server-controls.ts';

let cluster: TestCluster;
let instance: TestInstance;
let before: Record<string, unknown>;
let killAt: string;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18 });
  await cluster.query('create database shop');
  await cluster.query('create table goods (a int)');
  instance = await protect(cluster, { archiving: false });
  killAt = instance.path('kill-at');
  await configureEmergency(instance, [
    `maintenance_file: ${instance.path('page.html')}`,
    'hooks:',
    // The hook's parent is the program. It is killed once, at the moment that the file names.
    `  - { command: '[ "$AISHELL_ACTION $AISHELL_WHEN $AISHELL_STEP" != "$(cat ${killAt})" ] || { rm ${killAt}; kill -9 $PPID; }' }`,
  ]);
  await writeFile(killAt, '');
  before = await dumpControls(cluster);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

async function runKilled(moment: string, args: readonly string[]): Promise<void> {
  await writeFile(killAt, moment);
  const done = await instance.run(args);
  expect(done.signal, `${moment}\n${done.stdout}\n${done.stderr}`).toBe('SIGKILL');
  await writeFile(killAt, '');
}

const steps = {
  hard: ['maintenance-page', 'read-only', 'close-databases', 'terminate', 'autovacuum', 'verify'],
  strict: ['read-only', 'recovery-settings', 'standby-signal', 'stop-server', 'start-server', 'verify'],
};

test('hard, killed before each step - resume puts everything back, and may be killed and run again itself', async () => {
  for (const step of ['record', ...steps.hard]) {
    await runKilled(`stop before ${step}`, stopArgs('--level', 'hard'));
    const stopped = step !== 'record';
    expect(await emergencyStatus(instance), step).toMatchObject({ stopped });
    if (stopped) await runKilled('resume before reload', ['emergency', 'resume-writes']);
    expect(await resumeWrites(instance), step).toMatchObject({ resumed: stopped, problems: [] });
    expect(await dumpControls(cluster), step).toEqual(before);
  }
});

test('strict, killed before each step - resume brings the server back from wherever it stands', async () => {
  const resumeSteps = [
    'standby-signal',
    'stop-server',
    'start-server',
    'put-back',
    'verify',
    'maintenance-page',
  ];
  for (const [index, step] of steps.strict.entries()) {
    await runKilled(`stop before ${step}`, stopArgs('--level', 'strict'));
    const resumeAt = resumeSteps[(index + 1) % resumeSteps.length];
    const restarts = ['start-server', 'verify'].includes(step);
    if (restarts || !/server/.test(resumeAt ?? ''))
      await runKilled(`resume before ${resumeAt}`, ['emergency', 'resume-writes']);
    expect(await resumeWrites(instance), step).toMatchObject({ resumed: true, writable: true, problems: [] });
    expect(await dumpControls(cluster), `${step}, then ${resumeAt}`).toEqual(before);
    expect(await resumeWrites(instance)).toMatchObject({ resumed: false });
  }
  expect(await cluster.query('select timeline_id from pg_control_checkpoint()')).toEqual([
    { timeline_id: 1 },
  ]);
});

test('strict, killed while the server is down, then run again - it goes on to the end', async () => {
  await runKilled('stop before start-server', stopArgs('--level', 'strict'));
  const down = await instance.run(['emergency', 'status']);
  expect(reportOf(down)).toMatchObject({ stopped: true, inEffect: null, server: null });
  // Whoever starts it now starts it in recovery mode.
  await cluster.start();
  expect(await stopWrites(instance, '--level', 'strict')).toMatchObject({
    already: true,
    proof: { inRecovery: true },
  });
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('two at once - one works, the other is told so', async () => {
  const both = await Promise.all([instance.run(stopArgs()), instance.run(stopArgs())]);
  const codes = both.map(({ exitCode }) => exitCode).sort();
  // When the first was done before the second began, both have worked.
  expect([
    [0, 0],
    [0, 7],
  ]).toContainEqual(codes);
  for (const done of both) if (done.exitCode === 7) expect(failureOf(done)).toMatchObject({ code: 'LOCKED' });
  const resumed = await Promise.all([1, 2].map(() => instance.run(['emergency', 'resume-writes'])));
  for (const done of resumed) expect([0, 7]).toContain(done.exitCode);
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('a lock whose process is gone - is taken over', async () => {
  const lock = (number: number): string => instance.path(`state/shop.emergency.lock.${number}`);
  await stopWrites(instance);
  await writeFile(lock(1000), JSON.stringify({ pid: process.pid, started: 'another boot', action: 'x' }));
  await resumeWrites(instance);
  await expect(readFile(lock(1000))).rejects.toThrow();
  // Released.
  expect(await readFile(lock(1001), 'utf8')).toBe('{}');
});

for (const version of [14, 16, 17] as const) {
  test(`${version}: strict and back - on the same timeline, with every setting as before`, async () => {
    await using other = await startTestCluster({ version });
    const own = await protect(other, { archiving: false });
    await configureEmergency(own);
    const was = await dumpControls(other);
    expect(await stopWrites(own, '--level', 'hard')).toMatchObject({ problems: [] });
    expect(await stopWrites(own, '--level', 'strict')).toMatchObject({
      problems: [],
      proof: { inRecovery: true },
    });
    await resumeWrites(own);
    expect(await dumpControls(other)).toEqual(was);
  });
}
