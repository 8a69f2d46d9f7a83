import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runAs } from '../../src/engines/postgres/embedded-process.ts';
import type { Bench, Contender } from '../contender.ts';
import { makeDirectory, removeTree, treeBytes } from '../files.ts';
import { measure } from '../measure.ts';
import { startServer, stopServer, untilOpen } from '../server.ts';

/** Where install-pgbackrest.sh puts its launcher unless it is told otherwise, and where Debian's own package does. */
const PLACES = ['/opt/aishell-peers/bin/pgbackrest', '/usr/bin/pgbackrest'];

export interface FoundPgbackrest {
  readonly path: string;
  readonly version: string;
  /** The newest PostgreSQL it knows, of those the benchmark can run. */
  readonly postgres: 15 | 18;
}

/** The pgBackRest of this machine; null when there is none. */
export async function findPgbackrest(asked: string | undefined): Promise<FoundPgbackrest | null> {
  for (const path of asked === undefined ? PLACES : [asked]) {
    if (!existsSync(path)) continue;
    const { stdout } = await runAs(path, ['version'], { user: null, cwd: '/' });
    const match = /(\d+)\.(\d+)/.exec(stdout);
    if (match === null) continue;
    const newEnough = Number(match[1]) > 2 || Number(match[2]) >= 57;
    return { path, version: match[0], postgres: newEnough ? 18 : 15 };
  }
  return null;
}

/**
 * pgBackRest as the target is stated against: zstd 3, encrypted, two processes, bundles and blocks. `async`: its
 * processes archive and fetch the log ahead of what the server asks for.
 */
export function pgbackrest(
  bench: Bench,
  found: FoundPgbackrest,
  archiving: 'one by one' | 'async' = 'one by one',
): Contender {
  const directory = join(bench.runDirectory, 'pgbackrest');
  const repository = join(directory, 'repository');
  const config = join(directory, 'pgbackrest.conf');
  const base = [found.path, `--config=${config}`, '--stanza=bench'];
  const options = { user: bench.user, cwd: bench.runDirectory, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } };
  return {
    name: `pgBackRest ${found.version}`,
    settings: `zst:3, aes-256-cbc, process-max=2, repo1-bundle=y, repo1-block=y, start-fast=y, archive-push ${archiving === 'async' ? 'with archive-async=y' : 'on'}`,
    archiveCommand: `${base.join(' ')} archive-push "%p"`,
    async prepare() {
      await makeDirectory(repository, bench.user);
      await writeFile(config, configuration(bench, { directory, repository, archiving }));
      await measure([...base, 'stanza-create'], options);
    },
    backup: () => measure([...base, 'backup', '--type=full'], options),
    increment: () => measure([...base, 'backup', '--type=incr'], options),
    async restore(target) {
      await makeDirectory(target, bench.user);
      return measure([...base, `--pg1-path=${target}`, 'restore'], options);
    },
    archive: segmentPath => measure([...base, 'archive-push', segmentPath], options),
    async rescue(moment) {
      const startedAt = performance.now();
      await stopServer(bench);
      const target = moment.replace('T', ' ').replace('Z', '+00');
      const restored = await measure(
        [...base, '--delta', '--type=time', `--target=${target}`, '--target-action=promote', 'restore'],
        options,
      );
      const server = await startServer(bench, { port: bench.port });
      await untilOpen(server);
      return { ...restored, cpuMs: null, wallMs: performance.now() - startedAt };
    },
    repository,
    storedBytes: () => treeBytes(join(repository, 'backup')),
    clear: () => removeTree(directory),
  };
}

function configuration(
  bench: Bench,
  own: {
    readonly directory: string;
    readonly repository: string;
    readonly archiving: 'one by one' | 'async';
  },
): string {
  const { directory, repository, archiving } = own;
  return `[global]
repo1-path=${repository}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=a-passphrase-of-the-benchmark
repo1-bundle=y
repo1-block=y
repo1-retention-full=9
compress-type=zst
compress-level=3
process-max=2
start-fast=y
archive-async=${archiving === 'async' ? 'y' : 'n'}
lock-path=${directory}
spool-path=${directory}
log-path=${directory}
log-level-file=off
log-level-console=warn
[bench]
pg1-path=${bench.dataDirectory}
pg1-port=${bench.port}
pg1-socket-path=${bench.runDirectory}
pg1-user=postgres
`;
}
