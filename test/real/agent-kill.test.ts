import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect, test } from 'vitest';
import { parseLsn, segmentStart } from '../../src/engines/postgres/lsn.ts';
import {
  compareWithServer,
  keepsLog,
  protectWithAgent,
  startAgent,
  type TestAgent,
  untilAllArchived,
} from '../support/agent.ts';
import type { JsonLine } from '../support/cli.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const KILLS = Number(process.env['AISHELL_KILLS'] ?? 16);
const MIB = 1024 * 1024;

test(`agent and server killed ${KILLS} times at random - the archive is the server's log without a gap`, {
  timeout: 120_000 + KILLS * 6000,
}, async () => {
  await using cluster = await startTestCluster({ version: 18, walSegmentSizeMb: 1, settings: keepsLog });
  const instance = await protectWithAgent(cluster, { agent: { archive_timeout: '1s' } });
  await cluster.query('create table noise (n bigint, x text)');
  let agent = await startAgent(instance, { timeoutMs: 60_000 + KILLS * 6000 });
  const [begin] = await cluster.query<{ lsn: string }>(
    "select restart_lsn::text as lsn from pg_replication_slots where slot_name = 'aishell_shop'",
  );
  const noise = makeNoise(cluster);
  const notes: JsonLine[] = [];
  const next = async (): Promise<TestAgent> =>
    await startAgent(instance, { waits: false, timeoutMs: 60_000 + KILLS * 6000 });
  const did = { agent: 0, server: 0, both: 0 };
  try {
    for (let kill = 0; kill < KILLS; kill += 1) {
      await sleep(Math.random() * 700);
      const victim = (['agent', 'agent', 'server', 'both'] as const)[Math.floor(Math.random() * 4)]!;
      did[victim] += 1;
      if (victim !== 'server') {
        notes.push(...agent.notes());
        await agent.kill();
      }
      if (victim !== 'agent') await (Math.random() < 0.5 ? cluster.kill9() : cluster.stop('immediate'));
      if (victim !== 'server') agent = await next();
      if (victim !== 'agent') await cluster.start();
    }
    await noise.stop();
    await agent.until('streaming', 60_000);
    await untilAllArchived(instance, 120_000);
    notes.push(...agent.notes());
    expect(notes.filter(note => note['level'] === 'error')).toEqual([]);
    const topics = new Set(notes.map(note => note['topic']));
    expect([topics.has('gap'), topics.has('spool')]).toEqual([false, false]);
    const spooled = await readdir(instance.path('spool'), { recursive: true });
    expect(spooled.filter(name => name.includes('aside'))).toEqual([]);
    const from = segmentStart(parseLsn(begin!.lsn), MIB);
    const segments = await compareWithServer(instance, { timeline: 1, from, segmentSize: MIB });
    console.log(`${KILLS} kills (${JSON.stringify(did)}), ${noise.rows()} rows, ${segments} segments equal`);
    expect(segments).toBeGreaterThan(KILLS / 4);
  } finally {
    await noise.stop();
    await agent.kill();
  }
});

/** A writer that survives the server's end, and goes on when it is back. */
function makeNoise(cluster: TestCluster): { rows(): number; stop(): Promise<void> } {
  let isStopping = false;
  let rows = 0;
  const running = (async () => {
    while (!isStopping) {
      const client = new pg.Client({ ...cluster.connection, connectionTimeoutMillis: 5000 });
      client.on('error', () => undefined);
      try {
        await client.connect();
        while (!isStopping) {
          const { rowCount } = await client.query(
            `insert into noise select n, repeat(md5(random()::text), 1 + (random() * 40)::int)
             from generate_series(1, 1 + (random() * 200)::int) n`,
          );
          rows += rowCount ?? 0;
          // Some MB a second: what is archived must keep up with a machine that runs other tests as well.
          await sleep(5);
        }
      } catch {
        await sleep(50);
      }
      await client.end().catch(() => undefined);
    }
  })();
  return {
    rows: () => rows,
    stop: async () => {
      isStopping = true;
      await running;
    },
  };
}
