import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import { runAs } from '../src/engines/postgres/embedded-process.ts';
import type { Bench, Contender } from './contender.ts';
import { removeTree, settle, treeBytes } from './files.ts';
import { aishell, buildProgram } from './peers/aishell.ts';
import { pgbackrest } from './peers/pgbackrest.ts';
import { machineLine, medianWallMs, type Row, type Target, tableLines, targetLines } from './report.ts';
import { freePort, type RunningServer, startServer, stopServer, untilOpen } from './server.ts';
import { clientOf, runTraffic, type Shop, shopOf } from './shop-data.ts';
import { alternate, archiverIdle, type Setting } from './stage.ts';

/** The log between backup and DELETE, for a shop of 5 GB; the DELETE itself makes some 45 segments more. */
const LOG_SEGMENTS = 205;
/** What customers still write before anybody notices. */
const LATER_SEGMENTS = 10;
const SEGMENT_BYTES = 16 * MIB;
const LIMIT = 0.35;

interface Disaster {
  /** A moment after everything that shall be kept, and before the DELETE began. */
  readonly moment: string;
  /** From the end of the backup to that of the DELETE. */
  readonly segments: number;
  readonly history: number;
}

/**
 * The tutorial's disaster: DELETE FROM users without a WHERE, noticed later, undone by going back in time in place. Wall
 * time is from the command, given to a running server, until that server answers again, open for writing.
 */
export async function benchPitr(setting: Setting): Promise<void> {
  const dataDirectory = join(setting.runDirectory, 'shop');
  const bench: Bench = { ...setting, dataDirectory, port: await freePort() };
  const contenders = await contendersOf(setting, bench);
  const shop = shopOf(setting.sizeBytes);
  await copyTree({ from: setting.dataDirectory, to: dataDirectory });
  const disaster = await makeDisaster(setting, bench, { shop, contenders });
  await stopServer(bench);
  const wounded = join(setting.runDirectory, 'wounded');
  await copyTree({ from: dataDirectory, to: wounded });
  for (const { repository } of contenders)
    await copyTree({ from: repository, to: `${repository}.kept`, links: true });

  const rows = await alternate(setting, contenders, async contender => {
    const { repository } = contender;
    for (const path of [dataDirectory, repository]) await removeTree(path);
    await copyTree({ from: wounded, to: dataDirectory });
    await copyTree({ from: `${repository}.kept`, to: repository, links: true });
    await archiveWith(bench, [contender]);
    await settle(dataDirectory);
    await settle(repository);
    const server = await startServer(bench, { port: bench.port });
    const measured = await contender.rescue?.(disaster.moment);
    if (measured === undefined) throw new Error(`${contender.name} cannot go back in time`);
    await checkRescued(server, { users: shop.users, history: disaster.history });
    await stopServer(bench);
    return { measured, storedBytes: null };
  });
  const bytes = await treeBytes(join(wounded, 'base'));
  console.log(reportOf(setting, { rows, contenders, disaster, bytes }).join('\n'));
}

export async function contendersOf(setting: Setting, bench: Bench): Promise<Contender[]> {
  const launcher = await buildProgram(setting.runDirectory);
  const all = [aishell(bench, launcher)];
  if (setting.found !== null) all.push(pgbackrest(bench, setting.found, 'async'));
  return all.filter(({ name }) => name.toLowerCase().includes(setting.only.toLowerCase()));
}

/** A backup by everyone, the traffic that everyone archives, the DELETE, more traffic. */
async function makeDisaster(
  setting: Setting,
  bench: Bench,
  made: { readonly shop: Shop; readonly contenders: readonly Contender[] },
): Promise<Disaster> {
  const { shop, contenders } = made;
  const factor = shop.scale / shopOf(5e9).scale;
  await archiveWith(bench, []);
  const server = await startServer(bench, { port: bench.port });
  for (const contender of contenders) await contender.prepare();
  // What a contender archives while another one backs up is all the same to it.
  await archiveWith(bench, contenders);
  await using client = await clientOf(server);
  await client.run('select pg_reload_conf()');
  for (const contender of contenders) {
    setting.say(`${contender.name}: a backup`);
    await contender.backup();
  }
  setting.say('traffic, then DELETE FROM users, then traffic');
  const start = await client.row<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
  await runTraffic(server, shop.scale, LOG_SEGMENTS * factor * SEGMENT_BYTES);
  await sleep(100);
  const { moment, history } = await client.row<{ moment: string; history: string }>(`
    select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as moment,
      count(*) as history from pgbench_history`);
  await sleep(100);
  await client.run('delete from users');
  const { bytes } = await client.row<{ bytes: string }>(
    `select pg_current_wal_lsn() - '${start.lsn}'::pg_lsn as bytes`,
  );
  await runTraffic(server, shop.scale, LATER_SEGMENTS * factor * SEGMENT_BYTES);
  await client.run('select pg_switch_wal()', 'checkpoint');
  setting.say('waiting until everybody has archived the log');
  await archiverIdle(bench.dataDirectory, 600_000);
  for (const contender of made.contenders) await contender.settleLog?.();
  return { moment, segments: Math.floor(Number(bytes) / SEGMENT_BYTES), history: Number(history) };
}

/** Who gets the server's log, from its next start or reload on; nobody: it is thrown away. */
export async function archiveWith(bench: Bench, contenders: readonly Contender[]): Promise<void> {
  const command = contenders.map(contender => contender.archiveCommand).join(' && ') || 'exit 0';
  const settings = `archive_mode = on\narchive_command = '${command.replaceAll("'", "''")}'\n`;
  await appendFile(
    join(bench.dataDirectory, 'postgresql.conf'),
    `${settings}shared_buffers = 256MB\nautovacuum = off\n`,
  );
}

async function checkRescued(
  server: RunningServer,
  wanted: { readonly users: number; readonly history: number },
): Promise<void> {
  await untilOpen(server);
  await using client = await clientOf(server);
  const found = await client.row<{ users: string; history: string }>(
    'select (select count(*) from users) as users, (select count(*) from pgbench_history) as history',
  );
  if (Number(found.users) !== wanted.users || Number(found.history) !== wanted.history) {
    throw new Error(`not what was there before the DELETE: ${JSON.stringify({ found, wanted })}`);
  }
}

/** A copy that belongs to the server's account; with `links` files are shared, which nobody may then write to. */
export async function copyTree(copy: {
  readonly from: string;
  readonly to: string;
  readonly links?: boolean;
}): Promise<void> {
  const flags = copy.links === true ? '-al' : '-a';
  const { exitCode, stderr } = await runAs('cp', [flags, copy.from, copy.to], { user: null, cwd: '/' });
  if (exitCode !== 0) throw new Error(`unable to copy '${copy.from}': ${stderr}`);
}

function reportOf(
  setting: Setting,
  done: {
    readonly rows: readonly Row[];
    readonly contenders: readonly Contender[];
    readonly disaster: Disaster;
    readonly bytes: number;
  },
): string[] {
  const { rows, bytes, disaster } = done;
  const ours = rows.find(row => row.name === 'aishell');
  const peer = rows.find(row => row !== ours);
  const targets: Target[] = [];
  if (ours !== undefined && peer !== undefined) {
    const value = medianWallMs(ours) / medianWallMs(peer);
    const what = `from the command to open, against ${peer.name}`;
    targets.push({ what, value, limit: LIMIT, kind: 'at most', unit: '' });
  }
  return [
    `Back to before DELETE FROM users, in place: ${new Date().toISOString().slice(0, 10)}`,
    '',
    `PostgreSQL ${setting.binaries.version}, ${formatBytes(bytes)} of files, ${disaster.segments} segments of log from the backup to the end of the DELETE; medians of ${setting.rounds} rounds in turns.`,
    `${machineLine()}.`,
    '',
    ...done.contenders.map(contender => `- ${contender.name}: ${contender.settings}`),
    '',
    ...tableLines(rows, bytes),
    '',
    ...(ours === undefined ? [] : stepLines(ours)),
    ...targetLines(targets),
  ];
}

/** The seconds of each step of our last round, as the command reports them. */
export function stepLines(row: Row): string[] {
  const lines = (row.rounds.at(-1)?.output ?? '').split('\n').filter(line => line.startsWith('{'));
  const steps = lines
    .map(line => JSON.parse(line) as { type?: string; step?: string; state?: string; seconds?: number })
    .filter(event => event.type === 'step' && event.state === 'done')
    .map(({ step, seconds }) => `${step} ${(seconds ?? 0).toFixed(1)}`);
  return [`Its steps in the last round, in seconds: ${steps.join(', ')}.`, ''];
}
