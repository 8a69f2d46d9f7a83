import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { MIB } from '../../src/base/sizes.ts';
import { forkKey } from '../../src/engines/postgres/change-map.ts';
import { formatLsn, parseLsn, parseSegmentName } from '../../src/engines/postgres/lsn.ts';
import type { SegmentSummary } from '../../src/engines/postgres/segment-summary.ts';
import { encodeSummary } from '../../src/engines/postgres/segment-summary-stored.ts';
import { mergeSummaries, summarizeSegment } from '../../src/engines/postgres/summarize-segment.ts';
import { type BlockReference, forEachBlock } from '../../src/engines/postgres/wal-blocks.ts';
import { createWalReader } from '../../src/engines/postgres/wal-reader.ts';
import { readActivity, readChanges } from '../../src/operations/log/log-summaries.ts';
import { type LogView, openLogView } from '../../src/operations/log/log-view.ts';
import { storeSegment } from '../../src/operations/log/store-segment.ts';
import type { Repository } from '../../src/repository/repository.ts';
import { memoryRepository } from '../repository/memory-repository.ts';
import { debianProgram } from '../support/debian-postgres.ts';
import { type ExpectedTransaction, logWorkloadSettings, runLogWorkload } from '../support/log-workload.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const servers = [
  { version: 14, walSegmentSizeMb: 16 },
  { version: 15, walSegmentSizeMb: 16 },
  { version: 16, walSegmentSizeMb: 1 },
  { version: 17, walSegmentSizeMb: 4 },
  { version: 18, walSegmentSizeMb: 16 },
] as const;
const forkNames = ['main', 'fsm', 'vm', 'init'];
const { signal } = new AbortController();

interface Segment {
  readonly name: string;
  readonly lsn: bigint;
  readonly bytes: Uint8Array;
}

function startServer(server: (typeof servers)[number]): Promise<TestCluster> {
  return startTestCluster({
    ...server,
    settings: {
      wal_keep_size: '4GB',
      max_wal_size: '4GB',
      wal_compression: server.version % 2 === 0 ? 'on' : 'off',
      ...logWorkloadSettings,
    },
  });
}

async function segmentsOf(cluster: TestCluster, segmentSize: number): Promise<Segment[]> {
  const directory = join(cluster.dataDirectory, 'pg_wal');
  const segments: Segment[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const place = parseSegmentName(name, segmentSize);
    if (place !== null)
      segments.push({ name, lsn: place.lsn, bytes: new Uint8Array(await readFile(join(directory, name))) });
  }
  return segments;
}

/** Every block reference of a log, with the position of its record. */
function blocksOf(segments: readonly Segment[], segmentSize: number): (BlockReference & { lsn: bigint })[] {
  const blocks: (BlockReference & { lsn: bigint })[] = [];
  const reader = createWalReader({
    segmentSize,
    startLsn: segments[0]!.lsn,
    onRecord(record) {
      const { lsn } = record;
      forEachBlock(record, reference => blocks.push({ ...reference, lsn }));
    },
  });
  for (const { bytes } of segments) reader.push(bytes);
  return blocks;
}

function line({ lsn, relation, fork, block }: BlockReference & { lsn: bigint }): string {
  const { tablespace, database, file } = relation;
  return `${formatLsn(lsn)} ${tablespace}/${database}/${file} ${forkNames[fork]} ${block}`;
}

test.for(servers)(
  'PostgreSQL $version - rows of every transaction, exactly; the log cut anywhere says the same; the map of changes',
  async server => {
    const segmentSize = server.walSegmentSizeMb * MIB;
    await using cluster = await startServer(server);
    const expected = await runLogWorkload(cluster, server.version);
    await cluster.stop('fast');
    const segments = await segmentsOf(cluster, segmentSize);

    const parts: SegmentSummary[] = [];
    for (const { lsn, bytes } of segments) {
      const part = summarizeSegment(bytes, { lsn, segmentSize });
      parts.push(part);
      if (part.ended !== 'segment end') break;
    }
    const bytes = Buffer.concat(segments.slice(0, parts.length).map(segment => segment.bytes));
    const joined = summarizeSegment(bytes, { lsn: segments[0]!.lsn, segmentSize });
    const merged = parts.reduce((first, second) => mergeSummaries(first, second));
    expect(Buffer.from(encodeSummary(merged)).equals(encodeSummary(joined))).toBe(true);
    expect(joined.open).toMatchObject([{ outcome: 'prepare', gid: 'forgotten' }]);
    expectStorage(joined, server.version);
    expect(joined.events.some(event => event.kind === 'restore point' && event.name === 'the end')).toBe(
      true,
    );

    const { repository, view } = await archive(segments, segmentSize);
    const range = { from: joined.firstRecordLsn!, to: joined.endLsn };
    const activity = await readActivity({ repository }, view, range, { signal, minimumRows: 1 });
    expectTransactions(activity.transactions, expected);
    expect([activity.commits, activity.aborts]).toEqual([joined.commits, joined.aborts]);
    const large = await readActivity({ repository }, view, range, { signal });
    const places = new Set(
      joined.storage.filter(({ kind }) => !kind.startsWith('relation')).map(({ xid }) => xid),
    );
    const small = large.transactions.filter(each => rowsOf(each) < 1000 && !places.has(each.xid));
    expect(
      small.filter(each => each.dropped.length + each.created.length === 0 && each.gid === null),
    ).toEqual([]);
    expect(large.transactions.filter(({ xid }) => places.has(xid)).length).toBeGreaterThanOrEqual(7);
    expect(large.transactions.length).toBeLessThan(activity.transactions.length);
    expect(large.rows).toEqual(activity.rows);
    await expectChanges({ repository, view }, blocksOf(segments, segmentSize), range);
  },
);

async function archive(
  segments: readonly Segment[],
  segmentSize: number,
): Promise<{ repository: Repository; view: LogView }> {
  const repository = memoryRepository();
  const systemIdentifier = Buffer.from(segments[0]!.bytes).readBigUInt64LE(24).toString();
  const owner = { instance: 'production', systemIdentifier };
  for (const { name, bytes } of segments) await storeSegment(repository, { ...owner, name, bytes, level: 1 });
  const source = { owner, segmentSize, timeline: null, backupTimelines: [1] };
  return { repository, view: await openLogView(repository, source, signal) };
}

function rowsOf({ rows }: { readonly rows: SegmentSummary['seconds'][number]['rows'] }): number {
  return rows.reduce((sum, { inserted, updated, deleted }) => sum + inserted + updated + deleted, 0);
}

/** The tables of the workload; catalogs and indexes of TOAST are none of what is expected. */
function expectTransactions(
  found: Awaited<ReturnType<typeof readActivity>>['transactions'],
  expected: readonly ExpectedTransaction[],
): void {
  const files = new Set(expected.flatMap(({ rows }) => Object.keys(rows).map(Number)));
  const byXid = new Map(found.map(transaction => [transaction.xid, transaction]));
  for (const { what, xid, outcome, rows } of expected) {
    const transaction = byXid.get(xid);
    const own = (transaction?.rows ?? []).filter(({ relation }) => files.has(relation.file));
    const counted = Object.fromEntries(
      own.map(({ relation, inserted, updated, deleted }) => [relation.file, [inserted, updated, deleted]]),
    );
    expect({ what, outcome: transaction?.outcome, rows: counted }).toEqual({ what, outcome, rows });
  }
  const truncated = byXid.get(expected.find(({ what }) => what === 'filled and truncated')!.xid)!;
  expect(truncated.created.length).toBeGreaterThan(0);
  expect(truncated.dropped.length).toBe(truncated.created.length);
}

function expectStorage(summary: SegmentSummary, version: number): void {
  const { storage } = summary;
  const count = (kind: string): number => storage.filter(event => event.kind === kind).length;
  expect(count('tablespace created')).toBe(1);
  expect(count('tablespace dropped')).toBe(1);
  expect(count('relation truncated')).toBeGreaterThanOrEqual(0);
  const created = storage.filter(event => event.kind === 'database created');
  const copies = created.filter(({ source }) => source !== null);
  // initdb makes template1 and its copies by file; then one copy, and two moves to another tablespace.
  expect(copies.length).toBeGreaterThanOrEqual(version >= 15 ? 3 : 4);
  expect(created.length - copies.length).toBe(version >= 15 ? 2 : 0);
  expect(copies.some(({ database, source }) => database === source!.database)).toBe(true);
  expect(count('database dropped')).toBeGreaterThanOrEqual(2);
  expect(storage.some(event => event.kind === 'relation dropped' && event.outcome === 'abort')).toBe(true);
  expect(count('unknown')).toBe(0);
}

/** Compares the map with what the references say one by one, for a few ranges and targets. */
async function expectChanges(
  log: { readonly repository: Repository; readonly view: LogView },
  blocks: readonly (BlockReference & { readonly lsn: bigint })[],
  range: { readonly from: bigint; readonly to: bigint },
): Promise<void> {
  const lsnAt = (share: number): bigint => blocks[Math.floor(blocks.length * share)]!.lsn;
  for (const [from, target, to] of [
    [range.from, lsnAt(0.5), range.to],
    [lsnAt(0.3), lsnAt(0.8), lsnAt(0.95)],
    [lsnAt(0.2), null, lsnAt(0.6)],
  ] as const) {
    const map = await readChanges(log, log.view, { from, to, target }, { signal });
    const copied = new Set<number>();
    for (const event of map.storage)
      if (event.kind === 'database created' && event.source !== null && target !== null && event.lsn < target)
        copied.add(event.source.database);
    const wanted = new Map<string, Map<number, number>>();
    for (const { lsn, relation, fork, block, overwritten } of blocks) {
      if (lsn < from || lsn >= to) continue;
      const key = forkKey(relation, fork);
      const pages = wanted.get(key) ?? new Map<number, number>();
      wanted.set(key, pages);
      const isLeft = overwritten && target !== null && lsn < target && !copied.has(relation.database);
      if (!pages.has(block)) pages.set(block, isLeft ? 1 : 0);
    }
    const found = [...map.forks].map(([key, fork]) => [
      key,
      [...fork.blocks].map((block, n) => [block, fork.overwrittenFirst[n]]),
    ]);
    const sorted = [...wanted].map(([key, pages]) => [key, [...pages].sort(([a], [b]) => a - b)]);
    const byKey = (a: unknown[], b: unknown[]): number => (String(a[0]) < String(b[0]) ? -1 : 1);
    expect(found.sort(byKey)).toEqual(sorted.sort(byKey));
  }
}

test.for(servers.filter(({ version }) => version >= 16))(
  'PostgreSQL $version - the same block references as pg_walinspect, with images and what they are for',
  async server => {
    const segmentSize = server.walSegmentSizeMb * MIB;
    await using cluster = await startServer(server);
    await runLogWorkload(cluster, server.version);
    await cluster.query('create extension pg_walinspect');
    const ours = blocksOf(await segmentsOf(cluster, segmentSize), segmentSize).map(
      reference => `${line(reference)} ${reference.overwritten}`,
    );
    const theirs = await cluster.query<{ line: string }>(
      `select concat_ws(' ', start_lsn, concat_ws('/', reltablespace, reldatabase, relfilenode),
         (array['main', 'fsm', 'vm', 'init'])[relforknumber + 1], relblocknumber,
         case when 'APPLY' = any(block_fpi_info) then 'true' else 'false' end) as line
       from pg_get_wal_block_info($1::pg_lsn, pg_current_wal_flush_lsn()) order by start_lsn, block_id`,
      [ours[0]!.split(' ')[0]],
    );
    expect(ours.length).toBeGreaterThan(10_000);
    const known = theirs.slice(0, ours.length).map(each => each.line);
    // It does not tell of WILL_INIT: what it calls overwritten must be so here, and the places must be the same.
    const place = (text: string): string => text.slice(0, text.lastIndexOf(' '));
    expect(known.map(place)).toEqual(ours.map(place));
    expect(known.filter((text, index) => text.endsWith('true') && !ours[index]!.endsWith('true'))).toEqual(
      [],
    );
    expect(known.filter(text => text.endsWith('true')).length).toBeGreaterThan(100);
  },
);

test('PostgreSQL 15 - the same block references as pg_waldump, record by record', async context => {
  const waldump = debianProgram(context, 'pg_waldump');
  const segmentSize = 16 * MIB;
  await using cluster = await startServer(servers[1]);
  await runLogWorkload(cluster, 15);
  await cluster.stop('fast');
  const segments = await segmentsOf(cluster, segmentSize);
  const directory = join(cluster.dataDirectory, 'pg_wal');
  // It ends with a failure, as every reading up to the end of a log does.
  const dump = await promisify(execFile)(
    waldump,
    ['--bkp-details', '-p', directory, segments[0]!.name, segments.at(-1)!.name],
    { maxBuffer: 512 * MIB },
  ).catch((failure: { stdout: string }) => failure);
  let lsn = '';
  const theirs: string[] = [];
  for (const text of dump.stdout.split('\n')) {
    const record = /^rmgr: .* lsn: ([0-9A-F]+\/[0-9A-F]+),/.exec(text);
    if (record !== null) lsn = formatLsn(parseLsn(record[1]!));
    const block = /^\s*blkref #\d+: rel (\d+\/\d+\/\d+) fork (\w+) blk (\d+)( \(FPW\).*)?/.exec(text);
    if (block === null) continue;
    const image =
      block[4] === undefined ? '-' : block[4].includes('for WAL verification') ? 'check' : 'apply';
    theirs.push(`${lsn} ${block[1]} ${block[2]} ${block[3]} ${image}`);
  }
  const ours = blocksOf(segments, segmentSize);
  expect(theirs.map(text => text.slice(0, text.lastIndexOf(' ')))).toEqual(ours.map(line));
  const missed = theirs.filter((text, index) => text.endsWith('apply') && !ours[index]!.overwritten);
  expect(missed).toEqual([]);
  expect(theirs.filter(text => text.endsWith('apply')).length).toBeGreaterThan(100);
});
