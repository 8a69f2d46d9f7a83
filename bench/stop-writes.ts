import { type ChildProcess, spawn } from 'node:child_process';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { StopReport } from '../src/operations/emergency/stop-report.ts';
import { makeDirectory } from './files.ts';
import { type Measurement, measure, median } from './measure.ts';
import { buildProgram } from './peers/aishell.ts';
import { machineLine, targetLines } from './report.ts';
import { createDataDirectory, type RunningServer, startServer } from './server.ts';
import type { Setting } from './stage.ts';

const WRITERS = 50;
const LEVELS = ['soft', 'hard', 'strict'] as const;
type Level = (typeof LEVELS)[number];

interface Round {
  readonly level: Level;
  readonly report: StopReport;
  /** From the command to the last row that was written, by the server's own clock; the start of the program included. */
  readonly lastRowMs: number;
  readonly wallMs: number;
}

/**
 * 50 applications write; `emergency stop-writes` is typed. Times are the program's own, since it was asked, and those of
 * the rows that the applications wrote, since the command was typed.
 */
export async function benchStopWrites(setting: Setting): Promise<void> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'data') };
  await createDataDirectory(place);
  const server = await startServer(place, { max_connections: 100, wal_level: 'replica' });
  const run = await prepareProgram(setting, server);
  const storm = startStorm(server);
  try {
    const rounds: Round[] = [];
    for (let round = 0; round < Math.max(setting.rounds, 3); round += 1) {
      for (const level of LEVELS) rounds.push(await stopOnce(server, { level, run }));
      setting.say(`round ${round + 1} done`);
    }
    console.log(reportOf(rounds).join('\n'));
  } finally {
    storm.kill('SIGKILL');
    await server[Symbol.asyncDispose]();
  }
}

type Run = (...args: string[]) => Promise<Measurement>;

async function prepareProgram(setting: Setting, server: RunningServer): Promise<Run> {
  const client = await server.connect();
  await client.query('create role app login');
  await client.query(
    'create table storm (writer int, at timestamptz not null default clock_timestamp()); grant insert on storm to app',
  );
  await client.end();
  const launcher = await buildProgram(setting.runDirectory);
  const directory = join(setting.runDirectory, 'aishell');
  await makeDirectory(directory, setting.user);
  const config = join(directory, 'aishell.yaml');
  const env = { PATH: '/usr/bin:/bin', HOME: directory, LC_ALL: 'C.UTF-8', AISHELL_CONFIG: config };
  const options = { user: setting.user, cwd: setting.runDirectory, env };
  const url = `postgresql://postgres@127.0.0.1:${server.port}/postgres`;
  const storage = join(directory, 'repository');
  await measure([launcher, 'backup', 'init', url, '--storage', storage, '--name', 'bench'], options);
  await appendFile(config, `emergency: { state_directory: ${join(directory, 'state')} }\n`);
  return (...args) => measure([launcher, 'emergency', ...args, '--yes', '--json'], options);
}

function startStorm(server: RunningServer): ChildProcess {
  const program = fileURLToPath(new URL('write-storm.ts', import.meta.url));
  return spawn(process.execPath, [program, String(server.port), String(WRITERS)], { stdio: 'ignore' });
}

async function stopOnce(
  server: RunningServer,
  { level, run }: { readonly level: Level; readonly run: Run },
): Promise<Round> {
  // Everybody writes.
  await sleep(2000);
  const typedAt = Date.now();
  const stopped = await run('stop-writes', '--level', level);
  const returnedAt = Date.now();
  await run('resume-writes');
  const client = await server.connect();
  const { rows } = await client.query<{ last: number; later: number }>(
    `select extract(epoch from max(at) filter (where at <= to_timestamp($1::float8 / 1000)))::float8 * 1000 as last,
            count(*) filter (where at > to_timestamp($2::float8 / 1000) and at <= to_timestamp($1::float8 / 1000))::int as later
     from storm`,
    [returnedAt, returnedAt - 200],
  );
  await client.end();
  if (rows[0]?.later !== 0) throw new Error(`${rows[0]?.later} rows were written when writes were stopped`);
  return { level, report: resultOf(stopped), lastRowMs: rows[0].last - typedAt, wallMs: stopped.wallMs };
}

function resultOf({ output }: Measurement): StopReport {
  const line = output.trim().split('\n').at(-1) ?? '';
  const outcome = JSON.parse(line) as { readonly type: string; readonly result: StopReport };
  if (outcome.type !== 'result' || outcome.result.problems.length > 0) throw new Error(line);
  return outcome.result;
}

function reportOf(rounds: readonly Round[]): string[] {
  const of = (level: Level, value: (round: Round) => number | null): number =>
    median(rounds.filter(round => round.level === level).map(round => value(round) ?? Number.NaN));
  const ms = (value: number): string => `${value.toFixed(0)} ms`;
  const lines = LEVELS.map(
    level =>
      `| ${level} | ${ms(of(level, ({ report }) => report.times.lastWriteMs))} | ${ms(of(level, ({ report }) => report.times.stoppedMs))} | ${ms(of(level, round => round.lastRowMs))} | ${ms(of(level, round => round.wallMs))} |`,
  );
  return [
    `${WRITERS} writers, ${rounds.length / LEVELS.length} rounds, medians. ${machineLine()}`,
    '',
    '| level | last write, since asked | stopped, since asked | last row, since typed | command, as a whole |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
    '',
    ...targetLines([
      {
        ...{ what: 'soft: last write', limit: 100, kind: 'at most', unit: ' ms' },
        value: of('soft', ({ report }) => report.times.lastWriteMs),
      },
      {
        ...{ what: 'strict: stopped', limit: 3000, kind: 'at most', unit: ' ms' },
        value: of('strict', ({ report }) => report.times.stoppedMs),
      },
    ]),
  ];
}
