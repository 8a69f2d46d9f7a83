import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../src/base/sizes.ts';
import type { Bench, Contender } from './contender.ts';
import { settle } from './files.ts';
import { contendersOf, copyTree } from './pitr.ts';
import { machineLine, medianWallMs, type Row, type Target, tableLines, targetLines } from './report.ts';
import { freePort, startServer } from './server.ts';
import { clientOf, runTraffic, shopOf } from './shop-data.ts';
import { alternate, type Setting } from './stage.ts';

/** How many segments wait when archiving begins: what a server writes in a bulk load, or while a repository was away. */
const SEGMENTS = 140;
const SEGMENT_BYTES = 16 * MIB;
/** As a usual server has them: the first change of a page after each is logged with the whole page. */
const SEGMENTS_BETWEEN_CHECKPOINTS = 20;
const LIMIT = 1.3;

/** A queue of full segments, handed to each contender by the server's own archiver, until none is left. */
export async function benchArchive(setting: Setting): Promise<void> {
  const dataDirectory = join(setting.runDirectory, 'shop');
  const bench: Bench = { ...setting, dataDirectory, port: await freePort() };
  const contenders = await contendersOf(setting, bench);
  await copyTree({ from: setting.dataDirectory, to: dataDirectory });
  // Nothing is archived until it is told to whom, and nothing is removed before that.
  await using server = await startServer(bench, {
    port: bench.port,
    archive_mode: 'on',
    checkpoint_timeout: '1d',
    max_wal_size: '20GB',
    wal_keep_size: '8GB',
    autovacuum: 'off',
  });
  await using client = await clientOf(server);
  const archiveWith = async (command: string): Promise<void> => {
    await client.run(
      `alter system set archive_command = '${command.replaceAll("'", "''")}'`,
      'select pg_reload_conf()',
    );
  };
  await archiveWith('exit 1');
  const { scale } = shopOf(setting.sizeBytes);
  setting.say(`writing ${SEGMENTS} segments of log`);
  for (let written = 0; written <= SEGMENTS; written += SEGMENTS_BETWEEN_CHECKPOINTS) {
    await runTraffic(server, scale, SEGMENTS_BETWEEN_CHECKPOINTS * SEGMENT_BYTES);
    await client.run('checkpoint');
  }
  const queue = await waiting(bench, 'ready');
  const rows = await alternate(setting, contenders, async contender => {
    for (const name of await waiting(bench, 'done')) await queueAgain(bench, name);
    await contender.prepare();
    await settle(join(dataDirectory, 'pg_wal'));
    const startedAt = performance.now();
    await archiveWith(contender.archiveCommand);
    while ((await waiting(bench, 'ready')).length > 0) await sleep(20);
    const wallMs = performance.now() - startedAt;
    await archiveWith('exit 1');
    await contender.clear();
    return { measured: { wallMs, cpuMs: null, peakMemoryBytes: null, output: '' }, storedBytes: null };
  });
  console.log(reportOf(setting, { rows, contenders, segments: queue.length }).join('\n'));
}

/** The segments with such a mark in archive_status. */
async function waiting(bench: Bench, mark: 'ready' | 'done'): Promise<string[]> {
  const names = await readdir(join(bench.dataDirectory, 'pg_wal', 'archive_status'));
  return names.filter(name => name.endsWith(`.${mark}`)).map(name => name.slice(0, -mark.length - 1));
}

async function queueAgain(bench: Bench, name: string): Promise<void> {
  const mark = join(bench.dataDirectory, 'pg_wal', 'archive_status', name);
  await rename(`${mark}.done`, `${mark}.ready`);
}

function reportOf(
  setting: Setting,
  done: {
    readonly rows: readonly Row[];
    readonly contenders: readonly Contender[];
    readonly segments: number;
  },
): string[] {
  const { rows, segments } = done;
  const rate = (row: Row): number => (segments * 1000) / medianWallMs(row);
  const ours = rows.find(row => row.name === 'aishell');
  const peer = rows.find(row => row !== ours);
  const targets: Target[] = [];
  if (ours !== undefined && peer !== undefined) {
    const what = `segments a second, against ${peer.name}`;
    targets.push({ what, value: rate(ours) / rate(peer), limit: LIMIT, kind: 'at least', unit: '' });
  }
  return [
    `A queue of ${segments} segments, until it is archived: ${new Date().toISOString().slice(0, 10)}`,
    '',
    `PostgreSQL ${setting.binaries.version}; medians of ${setting.rounds} rounds in turns.`,
    `${machineLine()}.`,
    '',
    ...done.contenders.map(contender => `- ${contender.name}: ${contender.settings}`),
    '',
    ...tableLines(rows, segments * SEGMENT_BYTES),
    '',
    ...rows.map(row => `- ${row.name}: ${rate(row).toFixed(1)} segments a second`),
    '',
    ...targetLines(targets),
  ];
}
