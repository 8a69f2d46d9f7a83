import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDist } from '../../scripts/build.ts';
import { copyRuntime } from '../../src/operations/demo/runtime-copy.ts';
import type { Bench, Contender } from '../contender.ts';
import { makeDirectory, removeTree, treeBytes } from '../files.ts';
import { type Measurement, measure } from '../measure.ts';

const INSTANCE = 'bench';

/** What of a restore every contender does: the rest is recovery and checks, after which pgBackRest has long ended. */
export const FILES_ONLY = 'aishell, files alone';
const FILE_STEPS = ['secure-log', 'plan', 'check', 'restore-files', 'sync'];

/** A restore less its recovery in isolation and its checks, from the seconds that it reports for each step. */
export function filesOnly(whole: Measurement): Measurement {
  let otherMs = 0;
  for (const line of whole.output.split('\n').filter(text => text.startsWith('{'))) {
    const event: { type?: string; step?: string; state?: string; seconds?: number } = JSON.parse(line);
    if (event.type !== 'step' || event.state !== 'done' || FILE_STEPS.includes(event.step ?? '')) continue;
    otherMs += (event.seconds ?? 0) * 1000;
  }
  return { wallMs: whole.wallMs - otherMs, cpuMs: null, peakMemoryBytes: null, output: '' };
}

/** What a restore in place still verifies once the instance is open. */
function afterOpeningMs(whole: Measurement): number {
  let isOpen = false;
  let afterMs = 0;
  for (const line of whole.output.split('\n').filter(text => text.startsWith('{'))) {
    const event: { type?: string; step?: string; state?: string; seconds?: number } = JSON.parse(line);
    if (event.type !== 'step' || event.state !== 'done') continue;
    if (isOpen) afterMs += (event.seconds ?? 0) * 1000;
    if (event.step === 'start') isOpen = true;
  }
  return afterMs;
}

/** Builds the program and puts it, with this Node, where the server's account can run it. Returns its launcher. */
export async function buildProgram(directory: string): Promise<string> {
  const dist = join(directory, 'built');
  await buildDist(dist);
  const launcher = fileURLToPath(new URL('../../bin/aishell', import.meta.url));
  return copyRuntime({ launcher, distDirectory: dist, directory: join(directory, 'program') });
}

/** Ourselves, as a user would type it; verification of the finished backup included, as it always is. */
export function aishell(bench: Bench, launcher: string): Contender {
  const directory = join(bench.runDirectory, 'aishell');
  const repository = join(directory, 'repository');
  const config = join(directory, 'aishell.yaml');
  const base = [launcher, 'backup'];
  const env = { PATH: '/usr/bin:/bin', HOME: directory, TMPDIR: directory, LC_ALL: 'C.UTF-8' };
  const options = { user: bench.user, cwd: bench.runDirectory, env: { ...env, AISHELL_CONFIG: config } };
  return {
    name: 'aishell',
    settings: 'zstd:3, AES-256-GCM, 2 workers, wal-archive on',
    archiveCommand: `AISHELL_CONFIG=${config} ${launcher} backup wal-archive "%p"`,
    async prepare() {
      await makeDirectory(directory, bench.user);
      const url = `postgresql://postgres@127.0.0.1:${bench.port}/postgres`;
      await measure([...base, 'init', url, '--storage', repository, '--name', INSTANCE], options);
    },
    backup: () => measure([...base, 'create', '--workers', '2', '--json'], options),
    increment: () =>
      measure([...base, 'create', '--type', 'incremental', '--workers', '2', '--json'], options),
    restore: target =>
      measure(
        [
          ...base,
          'restore',
          '--latest',
          '--target',
          target,
          '--confirm',
          `restore ${INSTANCE}`,
          '--yes',
          '--json',
        ],
        options,
      ),
    archive: segmentPath => measure([...base, 'wal-archive', segmentPath], options),
    settleLog: () => measure([...base, 'wal-summarize'], options),
    async rescue(moment) {
      const whole = await measure(
        [
          ...[...base, 'restore', '--point-in-time', moment],
          ...['--confirm', `restore ${INSTANCE}`, '--yes', '--json'],
        ],
        options,
      );
      return { ...whole, wallMs: whole.wallMs - afterOpeningMs(whole) };
    },
    repository,
    async storedBytes() {
      const instance = join(repository, 'instances', INSTANCE);
      const parts = ['backups', 'packs'].map(name => treeBytes(join(instance, name)));
      return (await Promise.all(parts)).reduce((sum, bytes) => sum + bytes, 0);
    },
    clear: () => removeTree(directory),
  };
}
