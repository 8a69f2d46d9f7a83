import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { formatBytes } from '../src/base/sizes.ts';
import type { RestoreReport } from '../src/operations/restore/restore-report.ts';
import { makeDirectory, removeTree, settle } from './files.ts';
import { type Measurement, measure, median } from './measure.ts';
import { buildProgram } from './peers/aishell.ts';
import { machineLine, targetLines } from './report.ts';
import { createDataDirectory, type RunningServer, startServer } from './server.ts';
import { archiverIdle, type Setting } from './stage.ts';

/** How large the databases are, as multiples of `--size`. */
const FACTORS = [1, 4, 16];
const ROW_BYTES = 250;
/** The same in every database: what happens before the mistake, the mistake, and what happens until it is noticed. */
const CHANGES = { before: 10_000, lost: 100_000, after: 500 };

interface Round {
  readonly factor: number;
  /** From the start of the operation to the first query that writes. */
  readonly openMs: number;
  readonly downMs: number;
  readonly wallMs: number;
  readonly report: RestoreReport;
  readonly steps: ReadonlyMap<string, number>;
}

/**
 * The same changes in databases of several sizes, rewound to just before a mistake: what is measured is the time until the
 * instance is open. After each round the rewind is undone, so that the next one has the same to do.
 */
export async function benchRewind(setting: Setting): Promise<void> {
  const launcher = await buildProgram(setting.runDirectory);
  const rounds: Round[] = [];
  for (const factor of FACTORS) rounds.push(...(await benchSize(setting, launcher, factor)));
  console.log(reportOf(setting, rounds).join('\n'));
}

async function benchSize(setting: Setting, launcher: string, factor: number): Promise<Round[]> {
  const directory = join(setting.runDirectory, `x${factor}`);
  await makeDirectory(directory, setting.user);
  const place = { ...setting, dataDirectory: join(directory, 'data'), runDirectory: directory };
  const config = join(directory, 'aishell.yaml');
  const env = { PATH: '/usr/bin:/bin', HOME: directory, LC_ALL: 'C.UTF-8', AISHELL_CONFIG: config };
  const options = { user: setting.user, cwd: directory, env };
  const run = (...args: string[]): Promise<Measurement> =>
    measure([launcher, 'backup', ...args, '--json'], options);
  await createDataDirectory(place);
  const server = await startServer(place, {
    archive_mode: 'on',
    archive_command: `AISHELL_CONFIG=${config} ${launcher} backup wal-archive "%p"`,
    shared_buffers: '256MB',
    max_wal_size: '4GB',
    checkpoint_timeout: '1h',
    autovacuum: 'off',
  });
  try {
    setting.say(`${factor}x: ${formatBytes(setting.sizeBytes * factor)} of rows`);
    const xid = await makeDisaster(server, { bytes: setting.sizeBytes * factor, directory, run });
    await archiverIdle(place.dataDirectory);
    const rounds: Round[] = [];
    for (let round = 0; round < setting.rounds; round += 1) {
      await settle(place.dataDirectory);
      rounds.push(await rewindOnce(run, { factor, xid }));
      const [kept] = (await readdir(directory)).filter(name => name.includes('aishell-safety'));
      const back = ['--go-back', join(directory, kept ?? ''), '--confirm', 'restore bench', '--yes'];
      await run('restore', ...back);
      setting.say(`${factor}x: round ${round + 1} done, open after ${rounds.at(-1)?.openMs.toFixed(0)} ms`);
    }
    return rounds;
  } finally {
    await server[Symbol.asyncDispose]();
    await removeTree(directory);
  }
}

/** @returns the transaction of the mistake */
async function makeDisaster(
  server: RunningServer,
  world: {
    readonly bytes: number;
    readonly directory: string;
    readonly run: (...args: string[]) => Promise<Measurement>;
  },
): Promise<string> {
  const url = `postgresql://postgres@127.0.0.1:${server.port}/postgres`;
  const client = await server.connect();
  try {
    const rows = Math.round(world.bytes / ROW_BYTES);
    await client.query(
      `create table orders (id int primary key, state int, filler text) with (fillfactor = 90)`,
    );
    for (let from = 1; from <= rows; from += 500_000) {
      const to = Math.min(rows, from + 499_999);
      await client.query(
        `insert into orders select n, 0, md5(n::text) || repeat(md5((n / 7)::text), 5) from generate_series(${from}, ${to}) n`,
      );
    }
    await client.query(
      `create table users as select n as id, md5(n::text) || '@example.com' as email from generate_series(1, ${CHANGES.lost}) n`,
    );
    await client.query('vacuum (freeze)');
    await world.run('init', url, '--storage', join(world.directory, 'repository'), '--name', 'bench');
    await world.run('create', '--workers', '2');
    await update(client, { count: CHANGES.before, rows, first: 1 });
    const { rows: gone } = await client.query<{ xid: string }>(
      'with gone as (delete from users returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
    );
    // Between those from before, in pages that the log before the mistake does not name.
    await update(client, { count: CHANGES.after, rows, first: Math.floor(rows / CHANGES.before / 2) });
    await client.query('select pg_switch_wal()');
    return gone[0]?.xid ?? '';
  } finally {
    await client.end();
  }
}

/**
 * Rows all over the table, each in a page of its own where it has room for its new version: so as many pages change
 * whatever the size. Twenty in a transaction.
 */
async function update(
  client: pg.Client,
  of: { readonly count: number; readonly rows: number; readonly first: number },
): Promise<void> {
  const { count, rows, first } = of;
  await client.query(`do $$ declare chosen int; begin for i in 1..${count} loop
    chosen := ${first} + (i::bigint * 7919 % ${count}) * ${Math.floor(rows / count)};
    update orders set state = state + 1 where id = chosen;
    if i % 20 = 0 then commit; end if; end loop; end $$`);
}

async function rewindOnce(
  run: (...args: string[]) => Promise<Measurement>,
  of: { readonly factor: number; readonly xid: string },
): Promise<Round> {
  const confirmed = ['--confirm', 'restore bench', '--yes', '--workers', '2'];
  const measured = await run('restore', '--xid', of.xid, '--rewind', ...confirmed);
  const lines = measured.output
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(
      line =>
        JSON.parse(line) as {
          type: string;
          step?: string;
          state?: string;
          seconds?: number;
          topic?: string;
          facts?: { seconds: number; downtimeSeconds: number };
          result?: RestoreReport;
        },
    );
  const opened = lines.find(line => line.topic === 'open')?.facts;
  const report = lines.at(-1)?.result;
  if (opened === undefined || report === undefined) throw new Error(measured.output);
  const steps = new Map(
    lines.filter(line => line.state === 'done').map(line => [line.step ?? '', (line.seconds ?? 0) * 1000]),
  );
  return {
    factor: of.factor,
    openMs: opened.seconds * 1000,
    downMs: opened.downtimeSeconds * 1000,
    wallMs: measured.wallMs,
    report,
    steps,
  };
}

const SHOWN = [
  'secure-log',
  'plan',
  'assess',
  'check',
  'stop',
  'rewind-plan',
  'keep',
  'rewrite',
  'replay',
  'pages',
  'sync',
  'start',
];

function reportOf(setting: Setting, rounds: readonly Round[]): string[] {
  const of = (factor: number, value: (round: Round) => number): number =>
    median(rounds.filter(round => round.factor === factor).map(value));
  const ms = (value: number): string => `${value.toFixed(0)} ms`;
  const lines = FACTORS.map(factor => {
    const amount = rounds.find(round => round.factor === factor)?.report.rewind?.amount;
    const size = formatBytes(rounds.find(round => round.factor === factor)?.report.backupBytes ?? 0);
    return `| ${factor}x | ${size} | ${ms(of(factor, round => round.openMs))} | ${ms(of(factor, round => round.downMs))} | ${ms(of(factor, round => round.wallMs))} | ${amount?.pagesFromBackup} | ${amount?.pagesLeft} | ${formatBytes(amount?.openedBytes ?? 0)} |`;
  });
  const steps = FACTORS.map(
    factor =>
      `| ${factor}x | ${SHOWN.map(step => ms(of(factor, round => round.steps.get(step) ?? 0))).join(' | ')} |`,
  );
  const growth = of(FACTORS.at(-1)!, round => round.openMs) / of(FACTORS[0]!, round => round.openMs);
  return [
    `The same changes (${CHANGES.before} rows before, ${CHANGES.lost} lost, ${CHANGES.after} after), ${setting.rounds} rounds, medians. ${machineLine()}`,
    '',
    '| | backup | open after | down for | with verification | pages from the backup | left to the log | opened |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
    '',
    `| | ${SHOWN.join(' | ')} |`,
    `| --- |${' --- |'.repeat(SHOWN.length)}`,
    ...steps,
    '',
    ...targetLines([
      {
        what: `time to open, ${FACTORS.at(-1)}x the size against ${FACTORS[0]}x`,
        value: growth,
        limit: 1.25,
        kind: 'at most',
        unit: '',
      },
    ]),
  ];
}
