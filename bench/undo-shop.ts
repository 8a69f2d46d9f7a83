import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import type { UndoReport } from '../src/operations/undo/undo-report.ts';
import type { Bench } from './contender.ts';
import { settle } from './files.ts';
import { type Measurement, measure, median } from './measure.ts';
import { aishell, buildProgram } from './peers/aishell.ts';
import { archiveWith, copyTree } from './pitr.ts';
import { machineLine } from './report.ts';
import { freePort, startServer, stopServer } from './server.ts';
import { clientOf, runTraffic, shopOf } from './shop-data.ts';
import { archiverIdle, type Setting } from './stage.ts';

const DELETED = 10_000;
/** For a shop of 5 GB. */
const LOG_SEGMENTS = 20;
const SEGMENT_BYTES = 16 * MIB;

const ways = ['what is needed', 'all of the backup'] as const;

interface Round {
  readonly way: (typeof ways)[number];
  readonly report: UndoReport;
  readonly command: Measurement;
}

/**
 * Some users deleted in the tutorial's shop, undone from a backup behind some traffic. In turns with all of the backup: that is
 * what the program restores where it finds no recorded catalogs, so they are hidden from it.
 */
export async function benchUndoShop(setting: Setting): Promise<void> {
  const dataDirectory = join(setting.runDirectory, 'shop');
  const bench: Bench = { ...setting, dataDirectory, port: await freePort() };
  const launcher = await buildProgram(setting.runDirectory);
  const ours = aishell(bench, launcher);
  const shop = shopOf(setting.sizeBytes);
  await copyTree({ from: setting.dataDirectory, to: dataDirectory });
  await archiveWith(bench, []);
  const server = await startServer(bench, { port: bench.port });
  await ours.prepare();
  await archiveWith(bench, [ours]);
  await using client = await clientOf(server);
  await client.run('select pg_reload_conf()');
  setting.say('a backup, then traffic');
  await ours.backup();
  await runTraffic(server, shop.scale, ((LOG_SEGMENTS * shop.scale) / shopOf(5e9).scale) * SEGMENT_BYTES);
  const catalogs = join(ours.repository, 'instances/bench/catalogs');
  const rounds: Round[] = [];
  for (let round = 0; round < setting.rounds; round += 1) {
    for (const way of ways) {
      const from = 1 + Math.floor((shop.users - DELETED) * Math.random());
      const { xid } = await client.row<{ xid: string }>(
        `with gone as (delete from users where id between ${from} and ${from + DELETED - 1})
         select pg_current_xact_id()::text as xid`,
      );
      await client.run('select pg_switch_wal()');
      await archiverIdle(dataDirectory, 600_000);
      await settle(dataDirectory);
      if (way === 'all of the backup') await rename(catalogs, `${catalogs}.hidden`);
      const command = await undo(bench, launcher, xid);
      if (way === 'all of the backup') await rename(`${catalogs}.hidden`, catalogs);
      rounds.push({ way, report: reportIn(command), command });
      setting.say(`${way}: ${(command.wallMs / 1000).toFixed(1)} s`);
    }
  }
  await stopServer(bench);
  console.log(reportOf(rounds, setting).join('\n'));
}

function undo(bench: Bench, launcher: string, xid: string): Promise<Measurement> {
  const directory = join(bench.runDirectory, 'aishell');
  const env = { PATH: '/usr/bin:/bin', HOME: directory, TMPDIR: directory, LC_ALL: 'C.UTF-8' };
  return measure([launcher, 'backup', 'undo', '--xid', xid, '--from', 'backup', '--yes', '--json'], {
    ...{ user: bench.user, cwd: bench.runDirectory },
    env: { ...env, AISHELL_CONFIG: join(directory, 'aishell.yaml') },
  });
}

function reportIn({ output }: Measurement): UndoReport {
  const line = output.trim().split('\n').at(-1) ?? '';
  const { type, result } = JSON.parse(line) as { readonly type: string; readonly result: UndoReport };
  const isBack =
    type === 'result' && result.problems.length === 0 && result.undone?.[0]?.inserted === DELETED;
  if (!isBack) throw new Error(line);
  return result;
}

function reportOf(rounds: readonly Round[], { binaries }: Setting): string[] {
  const of = (way: Round['way'], value: (round: Round) => number): number =>
    median(rounds.filter(round => round.way === way).map(value));
  const row = (way: Round['way']): string => {
    const cells = [
      formatBytes(of(way, ({ report }) => report.source.restored?.bytes ?? 0)),
      `${of(way, ({ report }) => report.seconds.source).toFixed(1)} s`,
      `${of(way, ({ command }) => command.wallMs / 1000).toFixed(1)} s`,
      `${(of(way, ({ command }) => command.peakMemoryBytes ?? 0) / MIB).toFixed(0)} MiB`,
    ];
    return `| ${[way, ...cells].join(' | ')} |`;
  };
  return [
    `${DELETED} of the shop's users, PostgreSQL ${binaries.version}; ${rounds.length / 2} rounds in turns, medians. ${machineLine()}`,
    '',
    '| restored | bytes | until the source is open | command, as a whole | peak memory |',
    '| --- | --- | --- | --- | --- |',
    ...ways.map(row),
  ];
}
