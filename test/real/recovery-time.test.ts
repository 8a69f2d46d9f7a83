import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { RecoveryOutlook } from '../../src/operations/recovery-time/recovery-outlook.ts';
import type { CliResult } from '../support/cli.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';

/** The instance's configuration with a recovery time objective. */
async function setObjective(instance: TestInstance, objective: string): Promise<void> {
  const text = await readFile(instance.configFile, 'utf8');
  const without = text.replace(/^.*recovery_time_objective.*\n/m, '');
  await writeFile(
    instance.configFile,
    without.replace(/^( +)engine: postgresql\n/m, `$&$1recovery_time_objective: ${objective}\n`),
  );
}

const outlookOf = (done: CliResult): RecoveryOutlook => done.json.at(-1)?.result as RecoveryOutlook;

test.for([15, 18] as const)(
  'PostgreSQL %i, estimate and objective - side by side, measured once it was restored',
  async version => {
    await using cluster = await startTestCluster({ version });
    const instance = await protect(cluster, { name: `rto${version}` });
    const state = instance.path('state');
    const env = { XDG_STATE_HOME: state };
    const health = (): Promise<CliResult> => instance.run(['backup', 'health'], { env });

    expect(await health()).toMatchObject({ exitCode: 3 });
    await instance.backup();
    await cluster.query(
      'create table t as select n, repeat(md5(n::text), 20) as filler from generate_series(1, 100000) n',
    );
    const guessed = await health();
    expect(guessed.exitCode).toBe(0);
    expect(outlookOf(guessed)).toMatchObject({
      objectiveSeconds: null,
      state: 'unknown',
      measuredAt: null,
      estimate: { method: 'rewind', confidence: 'guessed', whyNotRewind: null },
    });
    expect(outlookOf(guessed).estimate!.logBytes).toBeGreaterThan(50e6);

    const restored = await instance.run(
      ['backup', 'restore', '--latest', '--target', instance.path('copy')],
      { env },
    );
    expect(restored.exitCode, restored.stdout).toBe(0);
    await setObjective(instance, '1h');
    const measured = await health();
    expect(measured.exitCode).toBe(0);
    expect(outlookOf(measured)).toMatchObject({
      objectiveSeconds: 3600,
      state: 'kept',
      measuredAt: expect.stringMatching(/^2\d{3}-/),
      estimate: { confidence: 'partly measured' },
    });
    expect(
      JSON.parse(await readFile(join(state, 'aishell', 'speeds', `rto${version}.json`), 'utf8')),
    ).toMatchObject({
      replay: { bytes: expect.any(Number), seconds: expect.any(Number) },
      fixedSeconds: expect.any(Number),
    });

    await setObjective(instance, '1s');
    const passed = await health();
    expect(passed.exitCode).toBe(3);
    expect(outlookOf(passed).state).toBe('passed');
    const list = await instance.run(['backup', 'list'], { env });
    expect(list.json.at(-1)?.result).toMatchObject({ recovery: { state: 'passed', objectiveSeconds: 1 } });

    // With the server down the archive alone tells.
    await cluster.stop();
    const down = outlookOf(await health());
    expect(down.estimate).toMatchObject({ method: 'restore', whyNotRewind: 'the server does not answer' });
  },
);

test('the objective is about to be passed - the agent takes an incremental backup, and only then', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { wal_level: 'replica' } });
  const instance = await protect(cluster, { name: 'rtoagent' });
  await instance.backup();
  await cluster.query(
    'create table t as select n, repeat(md5(n::text), 20) as filler from generate_series(1, 200000) n',
  );
  // A machine that is known to replay ten megabytes in a second, and needs two seconds for all the rest.
  const state = instance.path('state');
  const speeds = {
    replay: { bytes: 1000e6, seconds: 100 },
    rewrite: { bytes: 100e6, seconds: 1 },
    rewriteShare: { rewrittenBytes: 0, logBytes: 100e6 },
    fixedSeconds: 2,
    measuredAt: new Date().toISOString(),
  };
  await mkdir(join(state, 'aishell', 'speeds'), { recursive: true });
  await writeFile(join(state, 'aishell', 'speeds', 'rtoagent.json'), JSON.stringify(speeds));
  await setObjective(instance, '15s');
  const env = { XDG_STATE_HOME: state };
  await appendFile(instance.configFile, `agent:\n  spool: ${instance.path('spool')}\n`);
  const agent = instance.start(['agent', 'run'], { env, timeoutMs: 120_000 });
  await expect
    .poll(() => agent.stdout(), { timeout: 60_000 })
    .toMatch(/an incremental backup is taken.*was made/s);
  agent.process.kill('SIGTERM');
  expect((await agent.done).exitCode).toBe(0);
  const list = (await instance.run(['backup', 'list'], { env })).json.at(-1)?.result as {
    backups: { backup: { type: string; name: string } }[];
    recovery: RecoveryOutlook;
  };
  expect(list.backups.map(each => each.backup.type)).toEqual(['incremental', 'full']);
  expect(list.recovery.state).toBe('kept');
});
