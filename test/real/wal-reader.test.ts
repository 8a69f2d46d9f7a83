import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { MIB } from '../../src/base/sizes.ts';
import { readControlFile } from '../../src/engines/postgres/control-file.ts';
import { formatLsn, parseLsn, parseSegmentName } from '../../src/engines/postgres/lsn.ts';
import { createWalReader, type WalReader } from '../../src/engines/postgres/wal-reader.ts';
import { mainDataOf, type WalRecord } from '../../src/engines/postgres/wal-record.ts';
import { type SegmentScan, scanSegment, scanSegments } from '../../src/engines/postgres/wal-scan.ts';
import { debianProgram } from '../support/debian-postgres.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';

const servers = [
  { version: 14, walSegmentSizeMb: 16 },
  { version: 15, walSegmentSizeMb: 16 },
  { version: 16, walSegmentSizeMb: 1 },
  { version: 17, walSegmentSizeMb: 64 },
  { version: 18, walSegmentSizeMb: 16 },
] as const;

/** @source access/rmgrlist.h; the order is the number, and has not changed since PostgreSQL 14 */
const rmgrNames = [
  'XLOG',
  'Transaction',
  'Storage',
  'CLOG',
  'Database',
  'Tablespace',
  'MultiXact',
  'RelMap',
  'Standby',
  'Heap2',
  'Heap',
  'Btree',
  'Hash',
  'Gin',
  'Gist',
  'Sequence',
  'SPGist',
  'BRIN',
  'CommitTs',
  'ReplicationOrigin',
  'Generic',
  'LogicalMessage',
];

async function* segmentsOf(
  cluster: TestCluster,
  segmentSize: number,
): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }> {
  const directory = join(cluster.dataDirectory, 'pg_wal');
  for (const name of (await readdir(directory)).sort()) {
    const segment = parseSegmentName(name, segmentSize);
    if (segment !== null) yield { lsn: segment.lsn, bytes: await readFile(join(directory, name)) };
  }
}

async function readAll(
  cluster: TestCluster,
  segmentSize: number,
  onRecord: (record: WalRecord) => void,
): Promise<WalReader> {
  let reader: WalReader | null = null;
  for await (const { lsn, bytes } of segmentsOf(cluster, segmentSize)) {
    reader ??= createWalReader({ segmentSize, startLsn: lsn, onRecord });
    reader.push(bytes);
  }
  return reader!;
}

async function scanAll(cluster: TestCluster, segmentSize: number): Promise<SegmentScan[]> {
  const scans: SegmentScan[] = [];
  for await (const scan of scanSegments(segmentsOf(cluster, segmentSize), { segmentSize })) scans.push(scan);
  return scans;
}

async function lastSegment(
  cluster: TestCluster,
  segmentSize: number,
): Promise<{ lsn: bigint; bytes: Uint8Array }> {
  let last: { lsn: bigint; bytes: Uint8Array } | null = null;
  for await (const segment of segmentsOf(cluster, segmentSize)) last = segment;
  return last!;
}

/** What a log can hold: all kinds of indexes and outcomes, records beyond a page and beyond a segment, a switch. */
async function writeLog(cluster: TestCluster): Promise<{ restorePointEnd: bigint; switchEnd: bigint }> {
  const client = await cluster.connect();
  await client.query(`
    create table t (id int primary key, v text, a int[], p point);
    create index on t using hash (v);
    create index on t using gin (a);
    create index on t using gist (p);
    create index on t using spgist (p);
    create index on t using brin (id);
    insert into t select g, repeat(md5(g::text), 3), array[g, g % 7], point(g % 100, g) from generate_series(1, 5000) g`);
  for (const statement of [
    'begin',
    "insert into t values (-1, 'a')",
    'savepoint a',
    "insert into t values (-2, 'b')",
    'savepoint b',
    "insert into t values (-3, 'c')",
    'release b',
    'rollback to a',
    'savepoint c',
    "insert into t values (-4, 'd')",
    'commit',
    'begin',
    'insert into t values (-10)',
    'savepoint a',
    'insert into t values (-11)',
    "prepare transaction 'one'",
    'begin',
    'insert into t values (-12)',
    "prepare transaction 'two'",
    'begin',
    'insert into t values (-13)',
    'rollback',
    "commit prepared 'one'",
    "rollback prepared 'two'",
    'create table gone as select * from t',
    'truncate gone',
    'drop table gone',
    // Too large to be compressed away, and beyond a segment where these are small.
    "select pg_logical_emit_message(true, 'big', string_agg(gen_random_uuid()::text, '')) from generate_series(1, 200000)",
    'checkpoint',
    'update t set v = v || id where id % 3 = 0',
    'delete from t where id % 5 = 0',
    'vacuum t',
    'reindex table t',
  ]) {
    await client.query(statement);
  }
  const point = await client.query<{ lsn: string }>(
    "select pg_create_restore_point('before the rest') as lsn",
  );
  const switched = await client.query<{ lsn: string }>('select pg_switch_wal() as lsn');
  await client.end();
  return { restorePointEnd: parseLsn(point.rows[0]!.lsn), switchEnd: parseLsn(switched.rows[0]!.lsn) };
}

function startServer(
  server: (typeof servers)[number],
  settings: Record<string, string | number> = {},
): Promise<TestCluster> {
  return startTestCluster({
    ...server,
    settings: {
      track_commit_timestamp: 'on',
      max_prepared_transactions: 10,
      wal_keep_size: '4GB',
      max_wal_size: '4GB',
      wal_compression: 'on',
      // Its transactions could come between what the server is asked and what is read of its log.
      autovacuum: 'off',
      ...settings,
    },
  });
}

test.for(servers)(
  'PostgreSQL $version, segments of $walSegmentSizeMb MB - every commit with its time, as the server knows them',
  async server => {
    const segmentSize = server.walSegmentSizeMb * MIB;
    await using cluster = await startServer(server);
    const { restorePointEnd, switchEnd } = await writeLog(cluster);
    const traffic = await loadTraffic(cluster, { clients: 3 });
    await traffic.progress(500);
    const { committed } = await traffic.stop();
    await cluster.query('checkpoint');
    const known = await cluster.query<{ xid: string; us: string }>(`
    select xid, (extract(epoch from pg_xact_commit_timestamp(xid::text::xid)) * 1000000)::bigint as us
    from pg_control_checkpoint() c,
      generate_series(c.oldest_commit_ts_xid::text::bigint, c.newest_commit_ts_xid::text::bigint) as xid
    where pg_xact_commit_timestamp(xid::text::xid) is not null order by xid`);
    const [facts] = await cluster.query<{ oldest: string; system: string }>(`
    select oldest_commit_ts_xid::text as oldest, system_identifier as system from pg_control_checkpoint(), pg_control_system()`);
    await cluster.stop('fast');

    const scans = await scanAll(cluster, segmentSize);
    const transactions = scans.flatMap(scan => scan.transactions);
    const committedByLog = transactions
      .filter(({ kind }) => kind === 'commit' || kind === 'commit prepared')
      .flatMap(({ xid, subxids, timeUs }) => [xid, ...subxids].map(each => [each, timeUs] as const))
      .filter(([xid]) => xid >= Number(facts!.oldest))
      .sort(([a], [b]) => a - b);
    expect(committedByLog).toEqual(known.map(({ xid, us }) => [Number(xid), BigInt(us)]));
    expect(known.length).toBeGreaterThan(committed);

    const prepared = transactions.filter(({ kind }) => kind === 'prepare');
    expect(prepared.map(({ gid, subxids }) => [gid, subxids.length])).toEqual([
      ['one', 1],
      ['two', 0],
    ]);
    const outcomes = transactions.filter(({ kind }) => kind.endsWith(' prepared'));
    expect(outcomes.map(({ kind, xid, subxids }) => [kind, xid, subxids])).toEqual([
      ['commit prepared', prepared[0]!.xid, prepared[0]!.subxids],
      ['abort prepared', prepared[1]!.xid, prepared[1]!.subxids],
    ]);
    expect(
      transactions.filter(({ kind, xid }) => kind === 'abort' && xid !== 0).length,
    ).toBeGreaterThanOrEqual(2);
    expect(
      transactions.some(({ kind, droppedRelations }) => kind === 'commit' && droppedRelations.length > 0),
    ).toBe(true);

    expect(scans.flatMap(scan => scan.restorePoints)).toMatchObject([
      { name: 'before the rest', endLsn: restorePointEnd },
    ]);
    const switches = scans.flatMap(scan => scan.events).filter(event => event.kind === 'switch');
    // Rounded up, the end of the record is the end of its segment.
    expect(switches.map(({ endLsn }) => endLsn)).toEqual([
      switchEnd + ((BigInt(segmentSize) - (switchEnd % BigInt(segmentSize))) % BigInt(segmentSize)),
    ]);
    for (const scan of scans.slice(0, -1)) {
      expect(scan).toMatchObject({
        ended: 'segment end',
        majorVersion: server.version,
        systemIdentifier: facts!.system,
      });
    }
    await expectSame(cluster, segmentSize, scans);
  },
);

/** The log ends with the checkpoint of the shutdown, and each segment on its own holds what it holds in the whole. */
async function expectSame(
  cluster: TestCluster,
  segmentSize: number,
  scans: readonly SegmentScan[],
): Promise<void> {
  const control = await readControlFile(cluster.dataDirectory);
  expect(control.state).toBe('shut down');
  const last = scans.flatMap(scan => scan.events).at(-1);
  expect(last).toMatchObject({ kind: 'checkpoint', shutdown: true, checkpoint: control.checkpoint });
  expect(scans.findLast(scan => scan.lastRecordEndLsn !== null)).toMatchObject({
    ended: 'unwritten',
    lastRecordEndLsn: last!.endLsn,
  });

  let index = 0;
  for await (const { lsn, bytes } of segmentsOf(cluster, segmentSize)) {
    const joined = scans[index];
    if (joined === undefined) break;
    index += 1;
    const alone = scanSegment(bytes, { lsn, segmentSize });
    expect(alone.firstRecordLsn).toBe(joined.firstRecordLsn);
    expect(alone.incompleteRecordLsn).toBe(
      joined.incompleteRecordLsn !== null && joined.incompleteRecordLsn >= lsn
        ? joined.incompleteRecordLsn
        : null,
    );
    expect(alone.transactions).toEqual(joined.transactions.filter(transaction => transaction.lsn >= lsn));
  }
}

test.for(servers.filter(({ version }) => version >= 15))(
  'PostgreSQL $version - the same records as pg_walinspect, one by one',
  async server => {
    const segmentSize = server.walSegmentSizeMb * MIB;
    await using cluster = await startServer(server);
    await writeLog(cluster);
    await cluster.query('create extension pg_walinspect');
    const ours: string[] = [];
    await readAll(cluster, segmentSize, record => {
      const { lsn, endLsn, prevLsn, xid, rmgr, length } = record;
      const main = mainDataOf(record).remainingBytes;
      ours.push([...[lsn, endLsn, prevLsn].map(formatLsn), xid, rmgrNames[rmgr], length, main].join(' '));
    });
    // What is behind the last record seen was written by the query itself.
    const theirs = await cluster.query<{ line: string }>(
      `select concat_ws(' ', start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_length, main_data_length) as line
     from pg_get_wal_records_info($1::pg_lsn, pg_current_wal_flush_lsn())`,
      [ours[0]!.split(' ')[0]],
    );
    expect(ours.length).toBeGreaterThan(10_000);
    expect(theirs.length).toBeGreaterThanOrEqual(ours.length);
    expect(theirs.slice(0, ours.length).map(({ line }) => line)).toEqual(ours);
  },
);

test('PostgreSQL 15 - the same records as pg_waldump, one by one', async context => {
  const waldump = debianProgram(context, 'pg_waldump');
  const segmentSize = 16 * MIB;
  await using cluster = await startServer(servers[1]);
  await writeLog(cluster);
  await cluster.stop('fast');
  const ours: string[] = [];
  const reader = await readAll(cluster, segmentSize, ({ lsn, prevLsn, xid, rmgr, length }) => {
    ours.push([formatLsn(lsn), formatLsn(prevLsn), xid, rmgrNames[rmgr], length].join(' '));
  });
  const directory = join(cluster.dataDirectory, 'pg_wal');
  const names = (await readdir(directory))
    .filter(name => parseSegmentName(name, segmentSize) !== null)
    .sort();
  // It ends with a failure, as every reading up to the end of a log does.
  const dump = await promisify(execFile)(waldump, ['-p', directory, names[0]!, names.at(-1)!], {
    maxBuffer: 256 * MIB,
  }).catch((failure: { stdout: string; stderr: string }) => failure);
  const theirs = dump.stdout
    .trimEnd()
    .split('\n')
    .map(line => {
      const match =
        /^rmgr: (\S+) +len \(rec\/tot\): +\d+\/ *(\d+), tx: +(\d+), lsn: (\S+), prev (\S+), /.exec(line);
      const [, rmgr, length, xid, lsn, prev] = match!;
      return [formatLsn(parseLsn(lsn!)), formatLsn(parseLsn(prev!)), xid, rmgr, length].join(' ');
    });
  expect(theirs).toEqual(ours);
  expect(dump.stderr).toContain(`error in WAL record at ${formatLsn(reader.lastRecordLsn!)}`);
  expect(dump.stderr).toContain(`at ${formatLsn(reader.end!.lsn)}`);
});

test.for(servers)(
  'PostgreSQL $version killed under traffic, with recycled segments - the end of its log, as its recovery finds it',
  async server => {
    const segmentSize = server.walSegmentSizeMb * MIB;
    await using cluster = await startServer(server, {
      wal_keep_size: 0,
      min_wal_size: `${8 * server.walSegmentSizeMb}MB`,
      max_wal_size: `${8 * server.walSegmentSizeMb}MB`,
    });
    // Fills some segments and lets checkpoints rename them to future ones, with what is in them.
    const fill =
      "select pg_logical_emit_message(false, 'fill', repeat('x', 1000)) from generate_series(1, $1::bigint * 1024)";
    for (let round = 0; round < 3; round += 1) {
      await cluster.query(`select count(*) from (${fill}) as filled`, [2 * server.walSegmentSizeMb]);
      await cluster.query('checkpoint');
    }
    const traffic = await loadTraffic(cluster, { clients: 3 });
    await traffic.progress(200);
    await cluster.kill9();
    await traffic.stop();

    let records = 0;
    const reader = await readAll(cluster, segmentSize, () => {
      records += 1;
    });
    expect(records).toBeGreaterThan(200);
    // The files behind the end were renamed, with what was in them.
    const behind = await lastSegment(cluster, segmentSize);
    expect(behind.lsn).toBeGreaterThan(reader.end!.lsn);
    expect(scanSegment(behind.bytes, { lsn: behind.lsn, segmentSize })).toMatchObject({
      ended: 'stale',
      recordCount: 0,
    });
    await cluster.start();
    const log = await readFile(cluster.logFile, 'utf8');
    const redone = [...log.matchAll(/redo done at (\S+) /g)].at(-1)?.[1];
    expect(redone).toBeDefined();
    expect(formatLsn(reader.lastRecordLsn!)).toBe(redone);
    expect(reader.end).not.toBeNull();
  },
);
