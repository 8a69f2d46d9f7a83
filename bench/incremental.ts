import { join } from 'node:path';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import type { Bench, Contender } from './contender.ts';
import { settle, treeBytes } from './files.ts';
import { type Measurement, median } from './measure.ts';
import { archiveWith, contendersOf, copyTree, stepLines } from './pitr.ts';
import {
  machineLine,
  medianWallMs,
  type Row,
  type Target,
  tableLines,
  targetLines,
  worstPeakBytes,
} from './report.ts';
import { freePort, startServer, stopServer } from './server.ts';
import { clientOf, type Shop, shopOf } from './shop-data.ts';
import { archiverIdle, type Setting } from './stage.ts';

const ACCOUNTS_PER_BRANCH = 100_000;
/** One row in so many. */
const SHARE = 100;
const STORED_LIMIT = 1.1;

/** A way to change one row in a hundred, and how long a backup of that may take against pgBackRest's. */
interface Change {
  readonly title: string;
  readonly wallLimit: number;
  /** Statements for a round: `rows` rows of the table, by their keys from 1 on. */
  readonly where: (rows: number, key: string) => string;
}

const CHANGES: readonly Change[] = [
  {
    title: '1 % of the rows changed at random',
    wallLimit: 0.6,
    where: (rows, key) =>
      `${key} in (select 1 + floor(random() * ${rows})::int from generate_series(1, ${Math.round(rows / SHARE)}))`,
  },
  {
    title: '1 % of the rows changed side by side',
    wallLimit: 0.5,
    where: (rows, key) => {
      const from = 1 + Math.floor(Math.random() * rows * (1 - 1 / SHARE));
      return `${key} between ${from} and ${from + Math.round(rows / SHARE) - 1}`;
    },
  },
];

/** Incremental backups of the tutorial's shop, everyone's of the same changes, each after a full backup of its own. */
export async function benchIncremental(setting: Setting): Promise<void> {
  const dataDirectory = join(setting.runDirectory, 'shop');
  const bench: Bench = { ...setting, dataDirectory, port: await freePort() };
  const contenders = await contendersOf(setting, bench);
  await copyTree({ from: setting.dataDirectory, to: dataDirectory });
  await archiveWith(bench, []);
  await startServer(bench, { port: bench.port });
  for (const contender of contenders) await contender.prepare();
  await archiveWith(bench, contenders);
  await stopServer(bench);
  const server = await startServer(bench, {
    port: bench.port,
    max_wal_size: '8GB',
    checkpoint_timeout: '1h',
  });
  const full = new Map<Contender, number>();
  for (const contender of contenders) {
    setting.say(`${contender.name}: a full backup`);
    await contender.backup();
    full.set(contender, await contender.storedBytes());
  }
  const results = CHANGES.map(change => ({ change, rows: contenders.map(each => newRow(each)) }));
  for (let round = 0; round < setting.rounds; round += 1) {
    for (const { change, rows } of results) {
      await using client = await clientOf(server);
      setting.say(`round ${round + 1}: ${change.title}`);
      await client.run(...statements(change, shopOf(setting.sizeBytes)), 'select pg_switch_wal()');
      await archiverIdle(dataDirectory, 600_000);
      for (const contender of contenders) await contender.settleLog?.();
      for (let turn = 0; turn < contenders.length; turn += 1) {
        const index = (round + turn) % contenders.length;
        const [contender, row] = [contenders[index]!, rows[index]!];
        await settle(dataDirectory);
        const before = await contender.storedBytes();
        const measured = await contender.increment?.();
        if (measured === undefined) throw new Error(`${contender.name} makes no incremental backups`);
        row.rounds.push(measured);
        row.stored.push((await contender.storedBytes()) - before);
        setting.say(`${contender.name} ${(measured.wallMs / 1000).toFixed(2)} s`);
      }
    }
  }
  await stopServer(bench);
  const bytes = await treeBytes(join(dataDirectory, 'base'));
  console.log(reportOf(setting, { contenders, results, full, bytes }).join('\n'));
}

interface IncrementRow {
  readonly name: string;
  readonly rounds: Measurement[];
  readonly stored: number[];
}

function newRow({ name }: Contender): IncrementRow {
  return { name, rounds: [], stored: [] };
}

function statements(change: Change, { scale, users }: Shop): string[] {
  const accounts = scale * ACCOUNTS_PER_BRANCH;
  return [
    `update pgbench_accounts set abalance = abalance + 1 where ${change.where(accounts, 'aid')}`,
    `update users set balance = balance + 1 where ${change.where(users, 'id')}`,
  ];
}

function reportOf(
  setting: Setting,
  done: {
    readonly contenders: readonly Contender[];
    readonly results: readonly { readonly change: Change; readonly rows: readonly IncrementRow[] }[];
    readonly full: ReadonlyMap<Contender, number>;
    readonly bytes: number;
  },
): string[] {
  const { contenders, bytes } = done;
  const lines = [
    `Incremental backup: ${new Date().toISOString().slice(0, 10)}`,
    '',
    `PostgreSQL ${setting.binaries.version}, ${formatBytes(bytes)} of files in the page cache; medians of ${setting.rounds} rounds in turns.`,
    `${machineLine()}.`,
    '',
    ...contenders.map(
      contender =>
        `- ${contender.name}: ${contender.settings}; its full backup takes ${formatBytes(done.full.get(contender) ?? 0)}`,
    ),
    '',
  ];
  const targets: Target[] = [];
  for (const { change, rows } of done.results) {
    const table = rows.map((row): Row => ({ ...row, storedBytes: median(row.stored) }));
    const ours = table.filter(row => row.name === 'aishell');
    lines.push(`${change.title}:`, '', ...tableLines(table, bytes), '', ...ours.flatMap(stepLines));
    targets.push(...targetsOf(change, table));
  }
  return [...lines, ...targetLines(targets)];
}

function targetsOf(change: Change, rows: readonly Row[]): Target[] {
  const ours = rows.find(row => row.name === 'aishell');
  const peer = rows.find(row => row !== ours);
  if (ours === undefined) return [];
  const memory = (worstPeakBytes(ours) ?? 0) / MIB;
  const targets: Target[] = [
    { what: `${change.title}: peak memory`, value: memory, limit: 350, kind: 'at most', unit: ' MiB' },
  ];
  if (peer === undefined) return targets;
  const wall = medianWallMs(ours) / medianWallMs(peer);
  const stored = (ours.storedBytes ?? 0) / (peer.storedBytes ?? 1);
  return [
    {
      what: `${change.title}: wall against ${peer.name}`,
      value: wall,
      limit: change.wallLimit,
      kind: 'at most',
      unit: '',
    },
    { what: `${change.title}: bytes stored`, value: stored, limit: STORED_LIMIT, kind: 'at most', unit: '' },
    ...targets,
  ];
}
