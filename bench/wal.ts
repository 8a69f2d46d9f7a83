import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import { Keyring } from '../src/crypto/keyring.ts';
import { parseSegmentName } from '../src/engines/postgres/lsn.ts';
import { encodeSummary } from '../src/engines/postgres/segment-summary-stored.ts';
import { summarizeSegment } from '../src/engines/postgres/summarize-segment.ts';
import { createWalReader } from '../src/engines/postgres/wal-reader.ts';
import { readActivity, readChanges } from '../src/operations/log/log-summaries.ts';
import { openLogView } from '../src/operations/log/log-view.ts';
import { storeSegment } from '../src/operations/log/store-segment.ts';
import type { Repository } from '../src/repository/repository.ts';
import { openStorage } from '../src/storage/registry.ts';
import { median } from './measure.ts';
import { machineLine, type Target, targetLines } from './report.ts';
import { createDataDirectory, startServer } from './server.ts';
import type { Setting } from './stage.ts';

const SEGMENT_BYTES = 16 * MIB;
const LOG_BYTES = 8 * SEGMENT_BYTES;
const LIMIT_MB_PER_SECOND = 400;

interface Segment {
  readonly name: string;
  readonly lsn: bigint;
  readonly bytes: Uint8Array;
}

interface Mix {
  readonly title: string;
  /** Writes some of it; called until there is enough. */
  write(client: pg.Client): Promise<void>;
}

const mixes: readonly Mix[] = [
  {
    title: 'small transactions, few images of pages',
    async write(client) {
      await client.query(`do $$ begin for i in 1..20000 loop
        update rows set balance = balance + 1 where id = 1 + i * 7919 % 50000;
        insert into history values (i, clock_timestamp()); commit; end loop; end $$`);
    },
  },
  {
    title: 'updates all over a large table, an image for each page',
    async write(client) {
      await client.query('checkpoint');
      await client.query('update rows set balance = balance + 1 where random() < 0.02');
    },
  },
];

/** How quickly the log is read on one core, from memory, and what is known of it afterwards at which cost. */
export async function benchWal(setting: Setting): Promise<void> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'wal') };
  await createDataDirectory(place);
  const logs: { readonly mix: Mix; readonly segments: readonly Segment[] }[] = [];
  {
    const settings = {
      wal_level: 'replica',
      max_wal_size: '20GB',
      wal_keep_size: '4GB',
      autovacuum: 'off',
      fsync: 'off',
    };
    await using server = await startServer(place, settings);
    const client = await server.connect();
    await client.query(`create table history (n int, at timestamptz);
      create table rows as select n as id, 0 as balance, repeat(md5(n::text), 4) as filler from generate_series(1, 1000000) n`);
    await client.query('alter table rows add primary key (id)');
    for (const mix of mixes) logs.push({ mix, segments: await writeLog(place.dataDirectory, client, mix) });
    await client.end();
  }
  const lines: string[] = [];
  const targets: Target[] = [];
  for (const { mix, segments } of logs) {
    setting.say(mix.title);
    const speeds = measureReading(segments, setting.rounds);
    lines.push(...reportOf(mix, segments, speeds), ...(await measureAnswers(setting, segments)), '');
    targets.push({
      what: `records with their CRC: ${mix.title}`,
      value: speeds.verified,
      limit: LIMIT_MB_PER_SECOND,
      kind: 'at least',
      unit: '',
    });
  }
  const head = `Reading the log: ${new Date().toISOString().slice(0, 10)}`;
  const about = `PostgreSQL ${setting.binaries.version}, ${formatBytes(LOG_BYTES)} of log of each kind, in memory; MB of 1e6 bytes for each second of one processor's time, medians of ${setting.rounds} rounds.`;
  console.log([head, '', about, `${machineLine()}.`, '', ...lines, ...targetLines(targets)].join('\n'));
}

/** As many whole segments as asked for, with nothing but what the mix writes. */
async function writeLog(dataDirectory: string, client: pg.Client, mix: Mix): Promise<Segment[]> {
  await client.query('checkpoint');
  const first = await switchSegment(client);
  const directory = join(dataDirectory, 'pg_wal');
  for (;;) {
    await mix.write(client);
    const current = await currentSegment(client);
    const names = (await readdir(directory)).filter(name => name > first && name < current);
    const places = names.sort().flatMap(name => {
      const place = parseSegmentName(name, SEGMENT_BYTES);
      return place === null ? [] : [{ name, lsn: place.lsn }];
    });
    if (places.length * SEGMENT_BYTES < LOG_BYTES) continue;
    const segments: Segment[] = [];
    for (const { name, lsn } of places.slice(0, LOG_BYTES / SEGMENT_BYTES))
      segments.push({ name, lsn, bytes: new Uint8Array(await readFile(join(directory, name))) });
    return segments;
  }
}

async function switchSegment(client: pg.Client): Promise<string> {
  await client.query('select pg_switch_wal()');
  return currentSegment(client);
}

async function currentSegment(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    'select pg_walfile_name(pg_current_wal_insert_lsn() + 1) as name',
  );
  return rows[0]?.name ?? '';
}

interface Speeds {
  readonly fast: number;
  readonly verified: number;
  readonly summary: number;
  readonly records: number;
}

function measureReading(segments: readonly Segment[], rounds: number): Speeds {
  let records = 0;
  const read = (verifyCrc: boolean): void => {
    records = 0;
    const startLsn = segments[0]!.lsn;
    const onRecord = (): void => {
      records += 1;
    };
    const reader = createWalReader({ segmentSize: SEGMENT_BYTES, startLsn, verifyCrc, onRecord });
    for (const { bytes } of segments) reader.push(bytes);
  };
  const summarize = (): void => {
    for (const { lsn, bytes } of segments) summarizeSegment(bytes, { lsn, segmentSize: SEGMENT_BYTES });
  };
  return {
    fast: speedOf(() => read(false), rounds),
    verified: speedOf(() => read(true), rounds),
    summary: speedOf(summarize, rounds),
    records,
  };
}

/** MB of log for each second of processor time: what else the machine does counts little. */
function speedOf(run: () => void, rounds: number): number {
  run();
  const speeds: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    speeds.push(LOG_BYTES / (user + system));
  }
  return median(speeds);
}

function reportOf(mix: Mix, segments: readonly Segment[], speeds: Speeds): string[] {
  const sizes = segments.map(
    ({ lsn, bytes }) => encodeSummary(summarizeSegment(bytes, { lsn, segmentSize: SEGMENT_BYTES })).length,
  );
  const perSegment = SEGMENT_BYTES / 1e3 / speeds.summary;
  return [
    `${mix.title} (${Math.round(speeds.records / segments.length)} records a segment):`,
    `- records found: ${speeds.fast.toFixed(0)} MB/s; with their CRC: ${speeds.verified.toFixed(0)} MB/s`,
    `- summarised, with CRC, pages, rows and transactions: ${speeds.summary.toFixed(0)} MB/s, ${perSegment.toFixed(1)} ms a segment`,
    `- a summary: ${formatBytes(median(sizes))} before compression`,
  ];
}

/** What a question about the whole log costs when the summaries are stored. */
async function measureAnswers(setting: Setting, segments: readonly Segment[]): Promise<string[]> {
  const repository: Repository = {
    id: '',
    storage: openStorage({
      kind: 'local',
      path: join(setting.runDirectory, `summaries-${segments[0]!.name}`),
    }),
    keyring: new Keyring(new Map([[1, randomBytes(32)]])),
  };
  const systemIdentifier = Buffer.from(segments[0]!.bytes).readBigUInt64LE(24).toString();
  const owner = { instance: 'bench', systemIdentifier };
  for (const { name, bytes } of segments) await storeSegment(repository, { ...owner, name, bytes, level: 1 });
  let stored = 0;
  for await (const { sizeBytes } of repository.storage.list('instances/bench/summaries/'))
    stored += sizeBytes;
  const { signal } = new AbortController();
  const source = { owner, segmentSize: SEGMENT_BYTES, timeline: null, backupTimelines: [1] };
  const view = await openLogView(repository, source, signal);
  const from = segments[0]!.lsn;
  const to = segments.at(-1)!.lsn + BigInt(SEGMENT_BYTES);
  const timed = async (run: () => Promise<unknown>): Promise<string> => {
    await run();
    const startedAt = performance.now();
    await run();
    return `${((performance.now() - startedAt) / segments.length).toFixed(2)} ms a segment`;
  };
  const activity = await timed(() => readActivity({ repository }, view, { from, to }, { signal }));
  const changes = await timed(() =>
    readChanges({ repository }, view, { from, to, target: from }, { signal }),
  );
  return [
    `- stored, ${formatBytes(stored / segments.length)} each: activity in ${activity}, pages changed in ${changes}`,
  ];
}
