import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { protectWithAgent, startAgent, type TestAgent } from '../support/agent.ts';
import { failureOf } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const setting = async (cluster: TestCluster): Promise<string> => {
  const [row] = await cluster.query<{ names: string }>(
    "select current_setting('synchronous_standby_names') as names",
  );
  return row!.names;
};

/** Milliseconds a commit takes. */
async function commitMs(cluster: TestCluster, id: number): Promise<number> {
  const startedMs = performance.now();
  await cluster.query('insert into pings values ($1)', [id]);
  return performance.now() - startedMs;
}

const OURS = 'FIRST 1 ("aishell_shop")';
const synchronous = { args: ['--synchronous'] };

async function untilOn(agent: TestAgent): Promise<void> {
  for (let tries = 0; (await agent.status()).synchronous !== 'on'; tries += 1) {
    if (tries > 100) throw new Error(`not on: ${JSON.stringify(agent.notes())}`);
    await sleep(100);
  }
}

test.each([15, 18] as const)(
  'PostgreSQL %i - every commit that was answered is on the agent’s disk; at the end the setting is as before',
  async version => {
    await using cluster = await startTestCluster({ version });
    const instance = await protectWithAgent(cluster);
    await cluster.query('create table pings (id int)');
    await using agent = await startAgent(instance, synchronous);
    await agent.until('synchronous');
    expect(await setting(cluster)).toBe(OURS);
    // The process that sends reads its settings when it looks for them.
    await expect
      .poll(
        () =>
          cluster.query(
            "select sync_state, application_name as name from pg_stat_replication where state = 'streaming'",
          ),
        { timeout: 20_000 },
      )
      .toEqual([{ sync_state: 'sync', name: 'aishell_shop' }]);
    for (let id = 1; id <= 20; id += 1) await commitMs(cluster, id);
    // Nothing is applied here: what waits for that is answered all the same.
    const client = await cluster.connect();
    await client.query("set synchronous_commit = 'remote_apply'");
    await client.query('insert into pings values (0)');
    await client.query("set synchronous_commit = 'remote_write'");
    await client.query('insert into pings values (0)');
    await agent.stop();
    expect(await setting(cluster)).toBe('');
    expect(await commitMs(cluster, 100)).toBeLessThan(2000);
    const [file] = await cluster.query<{ count: number }>(
      "select count(*)::int as count from pg_file_settings where name = 'synchronous_standby_names'",
    );
    expect(file).toEqual({ count: 0 });
  },
);

test('the agent is stopped (SIGSTOP) and goes on again - commits wait no longer than its timeout, and wait again later', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const instance = await protectWithAgent(cluster, {
    agent: { synchronous: true, synchronous_timeout: '2s' },
  });
  await cluster.query('create table pings (id int)');
  await using agent = await startAgent(instance);
  await agent.until('synchronous');
  agent.signal('SIGSTOP');
  const waitedMs = await commitMs(cluster, 1);
  expect(waitedMs).toBeGreaterThan(1000);
  expect(waitedMs).toBeLessThan(8000);
  expect(await setting(cluster)).toBe('');
  expect(await commitMs(cluster, 2)).toBeLessThan(1500);
  agent.signal('SIGCONT');
  await untilOn(agent);
  expect(await setting(cluster)).toBe(OURS);
  await commitMs(cluster, 3);
  const topics = agent.notes().filter(note => note['topic'] === 'synchronous');
  expect(topics.map(note => note['level'])).toEqual(['info', 'warning', 'info']);
});

test('the agent is killed - commits go on; the next agent takes over, and what was set before comes back', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protectWithAgent(cluster);
  await cluster.query('create table pings (id int)');
  // A user's own, of which none is there: only what is local counts.
  await cluster.query("alter system set synchronous_commit = 'on'");
  const agent = await startAgent(instance, synchronous);
  await agent.until('synchronous');
  await agent.kill();
  const waitedMs = await commitMs(cluster, 1);
  expect(waitedMs).toBeLessThan(3000);
  expect(await setting(cluster)).toBe('');
  await using second = await startAgent(instance, synchronous);
  await untilOn(second);
  // A crash of the server under it: commits wait for it again as soon as it streams again.
  await cluster.kill9();
  await cluster.start();
  expect(await commitMs(cluster, 2)).toBeLessThan(10_000);
  await untilOn(second);
  expect(await setting(cluster)).toBe(OURS);
  await second.stop();
  expect(await setting(cluster)).toBe('');
});

test('standbys of the user’s own - required as before, beside the agent; ANY is refused', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const instance = await protectWithAgent(cluster);
  await cluster.query('create table pings (id int)');
  await cluster.query("alter system set synchronous_standby_names = 'ANY 1 (s1, s2)'");
  await cluster.query('select pg_reload_conf()');
  await sleep(300);
  const refused = await instance.run(['agent', 'run', '--synchronous'], { timeoutMs: 60_000 });
  expect(failureOf(refused)).toMatchObject({ code: 'UNSUPPORTED' });
  expect(await setting(cluster)).toBe('ANY 1 (s1, s2)');
  await cluster.query("alter system set synchronous_standby_names = 's1'");
  await cluster.query('select pg_reload_conf()');
  await sleep(300);
  await using agent = await startAgent(instance, synchronous);
  await agent.until('synchronous');
  expect(await setting(cluster)).toBe('FIRST 2 ("aishell_shop", "s1")');
  await agent.stop();
  expect(await setting(cluster)).toBe('s1');
});

/** SIGKILL for the agent and its watchdog, as when their machine is lost. */
async function loseBoth(agent: TestAgent): Promise<void> {
  const children = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8').trim().split(' ');
  for (const child of children.map(Number)) {
    if (readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('watchdog')) process.kill(child, 'SIGKILL');
  }
  await agent.kill();
}

test('agent and watchdog are lost together - commits wait for the next agent, and its status says so', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protectWithAgent(cluster);
  await cluster.query('create table pings (id int)');
  const first = await startAgent(instance, synchronous);
  await first.until('synchronous');
  await loseBoth(first);
  expect(await setting(cluster)).toBe(OURS);
  await using second = await startAgent(instance, synchronous);
  await untilOn(second);
  await commitMs(cluster, 1);
  await second.stop();
  expect(await setting(cluster)).toBe('');
});

test('both are lost, and somebody resets the setting - commits wait for the next agent; while it runs, a reset counts', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protectWithAgent(cluster);
  const reset = async (): Promise<void> => {
    await cluster.query('alter system reset synchronous_standby_names');
    await cluster.query('select pg_reload_conf()');
  };
  const first = await startAgent(instance, synchronous);
  await first.until('synchronous');
  await loseBoth(first);
  // As the manual says where nobody is left to do it.
  await reset();
  await using second = await startAgent(instance, synchronous);
  await untilOn(second);
  expect(await setting(cluster)).toBe(OURS);
  await reset();
  while ((await second.status()).synchronous === 'on') await sleep(100);
  await sleep(1500);
  expect(await setting(cluster)).toBe('');
});

test('the server does not send any more on a connection that stands - commits wait a few seconds, not until it is given up', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protectWithAgent(cluster, {
    agent: { synchronous: true, synchronous_timeout: '2s' },
  });
  await cluster.query('create table pings (id int)');
  await using agent = await startAgent(instance);
  await agent.until('synchronous');
  // Quiet, but well.
  await sleep(6000);
  expect((await agent.status()).synchronous).toBe('on');
  const [sender] = await cluster.query<{ pid: number }>('select pid from pg_stat_replication');
  process.kill(sender!.pid, 'SIGSTOP');
  try {
    expect(await commitMs(cluster, 1)).toBeLessThan(12_000);
  } finally {
    process.kill(sender!.pid, 'SIGCONT');
  }
  await untilOn(agent);
  await commitMs(cluster, 2);
  const topics = agent.notes().filter(note => note['topic'] === 'synchronous');
  expect(topics.map(note => note['level'])).toEqual(['info', 'warning', 'info']);
});
