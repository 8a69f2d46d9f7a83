import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { openConfiguredRepository } from '../src/app/open-repository.ts';
import { MIB } from '../src/base/sizes.ts';
import { parseConfig } from '../src/config/parse-config.ts';
import { type Incident, newIncidentId } from '../src/operations/incident/incident.ts';
import { saveIncident } from '../src/operations/incident/incident-store.ts';
import type { UndoReport } from '../src/operations/undo/undo-report.ts';
import { makeDirectory, ownTree } from './files.ts';
import { type Measurement, measure, median } from './measure.ts';
import { buildProgram } from './peers/aishell.ts';
import { machineLine, targetLines } from './report.ts';
import { createDataDirectory, type RunningServer, startServer } from './server.ts';
import type { Setting } from './stage.ts';

/** The tutorial's table, and what it loses. */
const USERS = 3_200_000;
const INSTANCE = 'bench';

interface Round {
  readonly kind: UndoReport['source']['kind'];
  readonly report: UndoReport;
  readonly command: Measurement;
}

/**
 * DELETE FROM users, then `backup undo`: from a snapshot that was held before, and from a backup. The rate is that of the
 * whole command, from its start to its end: the log read, the rows gathered, put back, and compared.
 */
export async function benchUndo(setting: Setting): Promise<void> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'data') };
  await createDataDirectory(place);
  const launcher = await buildProgram(setting.runDirectory);
  const directory = join(setting.runDirectory, 'aishell');
  await makeDirectory(directory, setting.user);
  const config = join(directory, 'aishell.yaml');
  const env = { PATH: '/usr/bin:/bin', HOME: directory, LC_ALL: 'C.UTF-8', AISHELL_CONFIG: config };
  await using server = await startServer(place, {
    archive_mode: 'on',
    archive_command: `AISHELL_CONFIG=${config} ${launcher} backup wal-archive "%p"`,
    wal_level: 'replica',
    shared_buffers: '256MB',
    max_wal_size: '4GB',
  });
  const options = { user: setting.user, cwd: setting.runDirectory, env };
  const run = (...args: string[]): Promise<Measurement> => measure([launcher, 'backup', ...args], options);
  const url = `postgresql://postgres@127.0.0.1:${server.port}/postgres`;
  await run('init', url, '--storage', join(directory, 'repository'), '--name', INSTANCE);
  const client = await server.connect();
  setting.say(`loading ${USERS} users`);
  await load(client);
  await run('create', '--json');
  const rounds: Round[] = [];
  for (let round = 1; round <= setting.rounds; round += 1) {
    rounds.push(await undoFromSnapshot(setting, { server, client, config, run }));
    rounds.push(await undoFromBackup(setting, { client, run }));
    setting.say(`round ${round} done`);
  }
  await client.end();
  console.log(reportOf(rounds).join('\n'));
}

async function load(client: pg.Client): Promise<void> {
  await client.query(`
    create table users (id bigint primary key, email text not null, name text, country char(2),
                        balance numeric(12,2), created_at timestamptz);
    insert into users select n, 'user' || n || '@example.com', md5(n::text), 'FR', n % 100000,
                             now() - n * interval '1 second' from generate_series(1, ${USERS}) n;
    create index on users (email)`);
  await client.query('vacuum analyze users');
}

type Run = (...args: string[]) => Promise<Measurement>;

async function undoFromSnapshot(
  setting: Setting,
  bench: {
    readonly server: RunningServer;
    readonly client: pg.Client;
    readonly config: string;
    readonly run: Run;
  },
): Promise<Round> {
  const { server, client, config, run } = bench;
  const holder = await server.connect();
  try {
    await holder.query('begin isolation level repeatable read read only');
    const { rows } = await holder.query<{ name: string }>('select pg_export_snapshot() as name');
    const xid = await deleteUsers(client);
    await storeIncident(setting, { config, client, xid, snapshot: rows[0]?.name ?? '' });
    const command = await run('undo', 'latest', '--yes', '--json');
    return await checked(client, command);
  } finally {
    await holder.end();
    await client.query('vacuum users');
  }
}

async function undoFromBackup(
  _setting: Setting,
  { client, run }: { readonly client: pg.Client; readonly run: Run },
): Promise<Round> {
  const xid = await deleteUsers(client);
  const command = await run('undo', '--xid', String(xid), '--from', 'backup', '--yes', '--json');
  const round = await checked(client, command);
  await client.query('vacuum users');
  return round;
}

async function deleteUsers(client: pg.Client): Promise<number> {
  await client.query('begin');
  await client.query('delete from users');
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  await client.query('commit');
  return Number(rows[0]?.xid);
}

async function checked(client: pg.Client, command: Measurement): Promise<Round> {
  const line = command.output.trim().split('\n').at(-1) ?? '';
  const outcome = JSON.parse(line) as { readonly type: string; readonly result: UndoReport };
  if (outcome.type !== 'result' || outcome.result.problems.length > 0) throw new Error(line);
  const { rows } = await client.query<{ users: string }>('select count(*) as users from users');
  if (Number(rows[0]?.users) !== USERS) throw new Error(`${rows[0]?.users} users are there`);
  return { kind: outcome.result.source.kind, report: outcome.result, command };
}

/** As the agent stores it when it holds a snapshot. */
async function storeIncident(
  setting: Setting,
  facts: {
    readonly config: string;
    readonly client: pg.Client;
    readonly xid: number;
    readonly snapshot: string;
  },
): Promise<void> {
  const { rows } = await facts.client.query<{ system: string }>(
    'select system_identifier::text as system from pg_control_system()',
  );
  const at = new Date().toISOString();
  const incident: Incident = {
    ...{ format: 1, id: newIncidentId(new Date(), randomBytes(3)), sequence: 1, instance: INSTANCE },
    ...{ systemIdentifier: rows[0]?.system ?? '', toolVersion: 'bench', severity: 'critical' },
    ...{ status: 'open', resolution: null, detectedAt: at, updatedAt: at, tables: [], culprit: null },
    rule: { name: 'bench', explanation: 'bench', confidence: 'certain' },
    transaction: {
      ...{ xid: facts.xid, timeline: 1, beginLsn: null, endLsn: null, outcome: 'committed', endedAt: at },
    },
    guard: {
      policy: 'hold',
      snapshot: {
        ...{ name: facts.snapshot, database: 'postgres', heldSince: at, releasedAt: null },
        heldUntil: new Date(Date.now() + 3_600_000).toISOString(),
      },
      autovacuumOff: [],
      cancelled: false,
    },
    events: [],
  };
  const config = parseConfig(await readFile(facts.config, 'utf8'), facts.config);
  const repository = await openConfiguredRepository(config, { env: {} });
  await saveIncident({ instance: INSTANCE, repository }, incident);
  await ownTree(join(setting.runDirectory, 'aishell'), setting.user);
}

function reportOf(rounds: readonly Round[]): string[] {
  const kinds = ['snapshot', 'side instance'] as const;
  const of = (kind: (typeof kinds)[number], value: (round: Round) => number): number =>
    median(rounds.filter(round => round.kind === kind).map(value));
  const seconds = (value: number): string => `${value.toFixed(1)} s`;
  const held = rounds.filter(({ kind }) => kind === 'snapshot');
  const peak = Math.max(...held.map(({ command }) => command.peakMemoryBytes ?? 0));
  const rate = (kind: (typeof kinds)[number]): number =>
    of(kind, ({ command }) => (USERS * 1000) / command.wallMs);
  return [
    `${USERS} rows, two indexes; ${rounds.length / 2} rounds, medians. ${machineLine()}`,
    '',
    '| rows from | before | gathered | put back | compared | command, as a whole | rows/s | peak memory |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...kinds.map(
      kind =>
        `| ${kind} | ${seconds(of(kind, ({ report }) => report.seconds.source))} | ${seconds(of(kind, ({ report }) => report.seconds.gather))} | ${seconds(of(kind, ({ report }) => report.seconds.merge))} | ${seconds(of(kind, ({ report }) => report.seconds.compare))} | ${seconds(of(kind, ({ command }) => command.wallMs / 1000))} | ${rate(kind).toFixed(0)} | ${(of(kind, ({ command }) => command.peakMemoryBytes ?? 0) / MIB).toFixed(0)} MiB |`,
    ),
    '',
    ...targetLines([
      {
        what: 'undo from a held snapshot, rows/s',
        ...{ value: rate('snapshot'), limit: 80_000, kind: 'at least', unit: '' },
      },
      {
        what: 'peak memory, from a held snapshot',
        ...{ value: peak / MIB, limit: 350, kind: 'at most', unit: ' MiB' },
      },
    ]),
  ];
}
