import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { AgentReply } from '../src/agent/agent-protocol.ts';
import type { AgentStatus } from '../src/agent/agent-status.ts';
import { formatBytes } from '../src/base/sizes.ts';
import { parseLsn } from '../src/engines/postgres/lsn.ts';
import { aishell, buildProgram } from './peers/aishell.ts';
import { machineLine, type Target, targetLines } from './report.ts';
import { createDataDirectory, type RunningServer, startServer } from './server.ts';
import type { Setting } from './stage.ts';

const SECONDS = 30;
/** What the agent is promised to keep up with for a twentieth of a processor. */
const RATE_BYTES_PER_SECOND = 5e6;
const PROBE_EVERY_MS = 25;
const LAG_LIMIT_MS = 5;
const CORE_LIMIT = 0.05;

interface Streamed {
  readonly lagsMs: readonly number[];
  readonly walBytes: number;
  readonly cpuMs: number;
  readonly seconds: number;
}

/**
 * The agent beside a server: how long after a commit was answered it is on the agent's disk, on a quiet server and under
 * a steady load, and what of a processor it takes to receive, archive and summarise that load.
 */
export async function benchStream(setting: Setting): Promise<void> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'stream') };
  const launcher = await buildProgram(setting.runDirectory);
  await createDataDirectory(place);
  await using server = await startServer(place, { wal_level: 'replica', max_wal_size: '4GB' });
  const self = aishell({ ...place, port: server.port }, launcher);
  await self.prepare();
  const home = join(setting.runDirectory, 'aishell');
  const spool = join(home, 'spool');
  await appendFile(join(home, 'aishell.yaml'), `\nagent: { spool: ${JSON.stringify(spool)} }\n`);
  const client = await server.connect();
  await client.query('create table probes (id bigserial primary key, at timestamptz default now())');
  await client.query('create table load (id bigserial primary key, x text)');
  const agent = await startAgent(setting, { launcher, home });
  try {
    const ask = await statusReader(join(spool, 'bench', 'agent.sock'));
    setting.say('commits on a quiet server');
    const on = { server, client, ask, agent: agent.pid ?? 0 };
    const quiet = await streamFor({ ...on, rate: 0, probes: true });
    setting.say(`commits beside ${formatBytes(RATE_BYTES_PER_SECOND)} of log a second`);
    const loaded = await streamFor({ ...on, rate: RATE_BYTES_PER_SECOND, probes: true });
    // Asking for the position a thousand times a second takes more than all the rest.
    setting.say('the same without asking the agent anything');
    const alone = await streamFor({ ...on, rate: RATE_BYTES_PER_SECOND, probes: false });
    ask.end();
    console.log(reportOf(setting, { quiet, loaded, alone }).join('\n'));
  } finally {
    agent.kill('SIGTERM');
    await once(agent, 'exit');
    await client.end();
  }
}

async function startAgent(
  setting: Setting,
  place: { readonly launcher: string; readonly home: string },
): Promise<ChildProcess> {
  const env = { PATH: '/usr/bin:/bin', HOME: place.home, AISHELL_CONFIG: join(place.home, 'aishell.yaml') };
  const child = spawn(place.launcher, ['agent', 'run', '--json'], {
    cwd: setting.runDirectory,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(setting.user === null ? {} : { uid: setting.user.uid, gid: setting.user.gid }),
  });
  for await (const line of createInterface({ input: child.stdout! }))
    if (line.includes('"topic":"streaming"')) return child;
  throw new Error('the agent ended before it streamed');
}

interface StatusReader {
  (): Promise<AgentStatus>;
  end(): void;
}

/** Asks at the agent's socket again and again: an answer takes a fraction of a millisecond. */
async function statusReader(path: string): Promise<StatusReader> {
  const socket: Socket = connect(path);
  await once(socket, 'connect');
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const ask = async (): Promise<AgentStatus> => {
    socket.write('{"op":"status"}\n');
    for (;;) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error('the agent is gone');
      const reply = JSON.parse(value) as AgentReply;
      if ('status' in reply) return reply.status;
    }
  };
  return Object.assign(ask, { end: () => void socket.destroy() });
}

async function streamFor(on: {
  readonly server: RunningServer;
  readonly client: pg.Client;
  readonly ask: StatusReader;
  readonly agent: number;
  /** Bytes of log a second, made beside the probes. */
  readonly rate: number;
  /** Whether commits are made one by one, to see how long each takes to be durable. */
  readonly probes: boolean;
}): Promise<Streamed> {
  const position = async (): Promise<bigint> => {
    // Where the next record would begin (pg_current_wal_insert_lsn) is behind a page's header when the commit ends with a
    // page, as one in a thousand does: nothing is there, and nothing is sent until somebody writes again.
    const { rows } = await on.client.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    return parseLsn(rows[0]?.lsn ?? '0/0');
  };
  const stop = new AbortController();
  const load = on.rate === 0 ? null : makeLoad(on.server, on.rate, stop.signal);
  const [startLsn, startCpuMs, startedAt] = [await position(), await cpuMsOf(on.agent), performance.now()];
  const lagsMs: number[] = [];
  while (performance.now() - startedAt < SECONDS * 1000) {
    if (!on.probes) {
      await sleep(100);
      continue;
    }
    await on.client.query('insert into probes default values');
    const committedAt = performance.now();
    // Asked after the commit: a little too far rather than too short.
    const lsn = await position();
    for (;;) {
      const { durable } = await on.ask();
      if (durable !== null && parseLsn(durable) >= lsn) break;
    }
    lagsMs.push(performance.now() - committedAt);
    await sleep(PROBE_EVERY_MS);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  stop.abort();
  await load;
  const walBytes = Number((await position()) - startLsn);
  // What is still to be archived counts as well.
  while ((await on.ask()).spool.waitingSegments > 0) await sleep(50);
  return { lagsMs, walBytes, cpuMs: (await cpuMsOf(on.agent)) - startCpuMs, seconds };
}

/** Writes log at a steady rate, in commits of about 100 kB. */
async function makeLoad(server: RunningServer, rate: number, signal: AbortSignal): Promise<void> {
  const client = await server.connect();
  const each = 100e3;
  const startedAt = performance.now();
  for (let written = 0; !signal.aborted; written += each) {
    await client.query(
      `insert into load (x) select repeat(md5(n::text || clock_timestamp()::text), 8) from generate_series(1, 250) n`,
    );
    const aheadMs = (written / rate) * 1000 - (performance.now() - startedAt);
    if (aheadMs > 0) await sleep(aheadMs);
  }
  await client.end();
}

/** User and system time of a process. @source proc(5), /proc/pid/stat: utime and stime, in hundredths of a second */
async function cpuMsOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function reportOf(
  setting: Setting,
  { quiet, loaded, alone }: { readonly quiet: Streamed; readonly loaded: Streamed; readonly alone: Streamed },
): string[] {
  const lag = ({ lagsMs }: Streamed): string =>
    `p50 ${percentile(lagsMs, 0.5).toFixed(2)} ms, p95 ${percentile(lagsMs, 0.95).toFixed(2)} ms, longest ${Math.max(...lagsMs).toFixed(1)} ms (${lagsMs.length} commits)`;
  const core = alone.cpuMs / 1000 / (alone.walBytes / RATE_BYTES_PER_SECOND);
  const targets: Target[] = [
    {
      what: 'lag, p95',
      value: percentile(quiet.lagsMs, 0.95),
      limit: LAG_LIMIT_MS,
      kind: 'at most',
      unit: ' ms',
    },
    { what: 'of one processor at 5 MB/s', value: core, limit: CORE_LIMIT, kind: 'at most', unit: '' },
  ];
  return [
    `Streaming: ${new Date().toISOString().slice(0, 10)}`,
    '',
    `PostgreSQL ${setting.binaries.version}, ${SECONDS} s each. From the answer to a commit until it is on the agent's disk:`,
    `${machineLine()}.`,
    '',
    `- quiet server: ${lag(quiet)}`,
    `- beside ${formatBytes(loaded.walBytes / loaded.seconds)} of log a second: ${lag(loaded)}`,
    `- CPU for 100 MB of log, received, archived (zstd:3, AES-256-GCM) and summarised: ${(alone.cpuMs / (alone.walBytes / 1e8)).toFixed(0)} ms, at ${formatBytes(alone.walBytes / alone.seconds)} a second`,
    '',
    ...targetLines(targets),
  ];
}
