import { copyFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import type { Contender } from './contender.ts';
import { makeDirectory, removeTree, settle, treeBytes } from './files.ts';
import { type Measurement, measure, median } from './measure.ts';
import { FILES_ONLY, filesOnly } from './peers/aishell.ts';
import {
  machineLine,
  medianWallMs,
  type Row,
  type Target,
  tableLines,
  targetLines,
  worstPeakBytes,
} from './report.ts';
import { alternate, openStage, type Setting, type Stage } from './stage.ts';

/** How many log segments each contender archives in one round. */
const SEGMENTS = 8;
const SEGMENT_BYTES = 16 * MIB;

export async function benchBackup(setting: Setting): Promise<void> {
  await using stage = await openStage(setting);
  const rows = await alternate(setting, stage.contenders, async contender => {
    await contender.prepare();
    await stage.archiveWith(contender);
    await settle(setting.dataDirectory);
    const measured = await contender.backup();
    const storedBytes = await contender.storedBytes();
    await stage.archiveWith(null);
    await contender.clear();
    return { measured, storedBytes };
  });
  const table = tableLines(rows, await inputBytes(setting));
  const targets = [...speedTargets(rows, 'backup'), ...limitTargets(rows), ...memoryTargets(rows)];
  await report(setting, stage.contenders, ['Full backup', table, targetLines(targets)]);
}

export async function benchRestore(setting: Setting): Promise<void> {
  await using stage = await openStage(setting);
  for (const contender of stage.contenders) {
    setting.say(`${contender.name}: a backup to restore`);
    await contender.prepare();
    await stage.archiveWith(contender);
    await contender.backup();
    await stage.archiveWith(null);
  }
  const rows = await alternate(setting, stage.contenders, async contender => {
    const target = join(setting.runDirectory, 'restored');
    await settle(setting.runDirectory);
    const measured = await contender.restore(target);
    await removeTree(target);
    return { measured, storedBytes: null };
  });
  const whole = rows.find(row => row.name === 'aishell');
  if (whole !== undefined)
    rows.splice(1, 0, { ...whole, name: FILES_ONLY, rounds: whole.rounds.map(filesOnly) });
  const table = tableLines(rows, await inputBytes(setting));
  const targets = [...speedTargets(rows, 'restore', FILES_ONLY), ...memoryTargets(rows)];
  await report(setting, stage.contenders, ['Restore into an empty directory', table, targetLines(targets)]);
}

export async function benchWalArchive(setting: Setting): Promise<void> {
  await using stage = await openStage(setting);
  const contenders = stage.contenders.filter(contender => contender.archive !== undefined);
  for (const contender of contenders) await contender.prepare();
  const segments = await makeSegments(setting, stage);
  const rows = await alternate(setting, contenders, async (contender, round) => {
    const each: Measurement[] = [];
    for (const segment of segments.slice(round * SEGMENTS, (round + 1) * SEGMENTS)) {
      const measured = await contender.archive?.(segment);
      if (measured !== undefined) each.push(measured);
    }
    return { measured: summary(each), storedBytes: null };
  });
  const startUpMs = await measureStartUp(setting, stage.launcher);
  const targets: Target[] = rows
    .filter(row => row.name === 'aishell')
    .map(row => atMost('wal-archive of a 16 MB segment', medianWallMs(row), 150, ' ms'));
  targets.push(atMost('of which start-up', startUpMs, 60, ' ms'));
  const title = `wal-archive of a segment of 16 MB, median of ${SEGMENTS} in each round`;
  await report(setting, contenders, [title, tableLines(rows, SEGMENT_BYTES), targetLines(targets)]);
}

/** Full segments with real changes in them, each round's own, copied out of the server's way. */
async function makeSegments(setting: Setting, stage: Stage): Promise<string[]> {
  const wanted = SEGMENTS * setting.rounds;
  const { client } = stage;
  await stage.archiveWith(null);
  await client.query('drop table if exists log_filler');
  await client.query('create table log_filler as select * from documents limit 20000');
  await client.query('select pg_switch_wal()');
  const start = await logPosition(client);
  // One more than wanted: the last is still being written.
  for (
    let end = start;
    end.bytes < start.bytes + (wanted + 1) * SEGMENT_BYTES;
    end = await logPosition(client)
  ) {
    await client.query('update log_filler set title = title');
  }
  await client.query('drop table log_filler');
  const logDirectory = join(setting.dataDirectory, 'pg_wal');
  const names = (await readdir(logDirectory)).filter(
    name => /^[0-9A-F]{24}$/.test(name) && name >= start.segment,
  );
  const directory = join(setting.runDirectory, 'segments');
  await makeDirectory(directory, setting.user);
  const copies: string[] = [];
  for (const name of names.sort().slice(0, wanted)) {
    const path = join(directory, name);
    await copyFile(join(logDirectory, name), path);
    copies.push(path);
  }
  return copies;
}

async function logPosition(client: pg.Client): Promise<{ bytes: number; segment: string }> {
  const { rows } = await client.query<{ bytes: string; segment: string }>(
    `select (lsn - '0/0')::text as bytes, pg_walfile_name(lsn + 1) as segment from pg_current_wal_lsn() lsn`,
  );
  return { bytes: Number(rows[0]?.bytes), segment: rows[0]?.segment ?? '' };
}

/** What a run costs before it does anything: the hot path up to a configuration that is not there. */
async function measureStartUp(setting: Setting, launcher: string): Promise<number> {
  const command = [launcher, 'backup', 'wal-archive', '--config', join(setting.runDirectory, 'none'), 'x'];
  const walls: number[] = [];
  for (let round = 0; round < 15; round += 1) {
    const measured = await measure(['/bin/sh', '-c', '"$@" 2> /dev/null || true', 'sh', ...command], {
      user: setting.user,
      cwd: setting.runDirectory,
      env: { PATH: '/usr/bin:/bin', HOME: join(setting.runDirectory, 'aishell') },
    });
    walls.push(measured.wallMs);
  }
  return median(walls);
}

/** One measurement for several of the same kind. */
function summary(each: readonly Measurement[]): Measurement {
  const row = { name: '', rounds: each, storedBytes: null };
  return {
    wallMs: medianWallMs(row),
    cpuMs: median(each.map(({ cpuMs }) => cpuMs ?? 0)),
    peakMemoryBytes: worstPeakBytes(row),
    output: '',
  };
}

function speedTargets(rows: readonly Row[], what: string, name = 'aishell'): Target[] {
  const peer = rows.find(row => row.name.startsWith('pgBackRest'));
  const ours = rows.find(row => row.name === name);
  if (peer === undefined || ours === undefined) return [];
  return [
    atMost(`wall of a ${what} against ${peer.name}`, medianWallMs(ours) / medianWallMs(peer), 0.85, ''),
  ];
}

function limitTargets(rows: readonly Row[]): Target[] {
  const limit = rows.find(row => row.name.startsWith('zstd'));
  const ours = rows.find(row => row.name === 'aishell');
  if (limit === undefined || ours === undefined) return [];
  const value = medianWallMs(limit) / medianWallMs(ours);
  return [{ what: `speed against ${limit.name}`, value, limit: 0.9, kind: 'at least', unit: '' }];
}

function memoryTargets(rows: readonly Row[]): Target[] {
  return rows
    .filter(row => row.name === 'aishell')
    .map(row => atMost('peak memory', (worstPeakBytes(row) ?? 0) / MIB, 350, ' MiB'));
}

function atMost(what: string, value: number, limit: number, unit: Target['unit']): Target {
  return { what, value, limit, kind: 'at most', unit };
}

/** What there is to copy: the log and the server's own notes beside it do not count. */
function inputBytes(setting: Setting): Promise<number> {
  return treeBytes(join(setting.dataDirectory, 'base'));
}

async function report(
  setting: Setting,
  contenders: readonly Contender[],
  [title, table, targets]: readonly [string, readonly string[], readonly string[]],
): Promise<void> {
  console.log(
    [
      `${title}: ${new Date().toISOString().slice(0, 10)}`,
      '',
      `PostgreSQL ${setting.binaries.version}, ${formatBytes(await inputBytes(setting))} of files in the page cache; medians of ${setting.rounds} rounds in turns.`,
      `${machineLine()}.`,
      '',
      ...contenders.map(contender => `- ${contender.name}: ${contender.settings}`),
      '',
      ...table,
      '',
      ...targets,
    ].join('\n'),
  );
}
