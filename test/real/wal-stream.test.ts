import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { formatLsn } from '../../src/engines/postgres/lsn.ts';
import { openReplication } from '../../src/engines/postgres/replication-connection.ts';
import { startWalStream } from '../../src/engines/postgres/wal-receiver.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const COMMITS = 40;
const GATHER_MS = 100;
const SEGMENT_BYTES = 2n ** 24n;

/** Receives small commits that follow one another, all of them; counts how often something came after a while of nothing. */
async function receiveCommits(cluster: TestCluster, gatherMs: number): Promise<number> {
  const { host, port, user, database } = cluster.connection;
  const settings = { host, port, user, database, sslMode: 'disable' as const };
  await using replication = await openReplication(settings, { applicationName: 'test' });
  const { timeline, flushLsn } = await replication.identify();
  const begin = flushLsn - (flushLsn % 8192n);
  const pieces: Buffer[] = [];
  let [bursts, lastMs, end] = [0, 0, begin];
  const stream = startWalStream(replication, {
    ...{ slot: 'test', timeline, lsn: begin, gatherMs },
    positions: () => ({ written: end, flushed: end - 8n, applied: 0n }),
    onData(lsn, bytes) {
      expect(lsn).toBe(end);
      end += BigInt(bytes.length);
      pieces.push(Buffer.from(bytes));
      if (performance.now() - lastMs > 2) bursts += 1;
      lastMs = performance.now();
    },
  });
  const client = await cluster.connect();
  for (let n = 0; n < COMMITS; n += 1) {
    await client.query('insert into small values ($1)', [n]);
    await sleep(4);
  }
  const { rows } = await client.query<{ lsn: string }>(
    "select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::text as lsn",
  );
  while (end < BigInt(rows[0]!.lsn)) await sleep(5);
  stream.report();
  const told = async (): Promise<unknown> =>
    (
      await cluster.query(
        "select write_lsn, flush_lsn, replay_lsn from pg_stat_replication where application_name = 'test'",
      )
    )[0];
  // Of a receiver that applies nothing, nothing is said of that.
  const known = { write_lsn: formatLsn(end), flush_lsn: formatLsn(end - 8n), replay_lsn: null };
  await expect.poll(told).toEqual(known);
  await stream.stop();
  const received = Buffer.concat(pieces);
  const [log] = await cluster.query<{ bytes: Buffer }>(
    `select pg_read_binary_file('pg_wal/' || pg_walfile_name($1::pg_lsn), $2, $3) as bytes`,
    [formatLsn(begin), Number(begin % SEGMENT_BYTES), received.length],
  );
  expect(received.equals(log!.bytes)).toBe(true);
  return bursts;
}

test('many small commits - left to gather they come together, the server’s log to the byte; else each at once', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await cluster.query('create table small (id int)');
  await cluster.query("select pg_create_physical_replication_slot('test')");
  expect(await receiveCommits(cluster, GATHER_MS)).toBeLessThan(COMMITS / 4);
  expect(await receiveCommits(cluster, 0)).toBeGreaterThan(COMMITS / 2);
});
