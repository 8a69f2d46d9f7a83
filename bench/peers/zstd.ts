import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bench, Contender } from '../contender.ts';
import { makeDirectory, removeTree } from '../files.ts';
import { measure } from '../measure.ts';

// What no physical backup of PostgreSQL copies. @source pg_basebackup's own list, manual 54.4
const EXCLUDED = [
  'pg_wal/*',
  'pg_replslot/*',
  'pg_dynshmem/*',
  'pg_notify/*',
  'pg_serial/*',
  'pg_snapshots/*',
]
  .concat(['pg_stat_tmp/*', 'pg_subtrans/*', 'postmaster.*', '*/pgsql_tmp*', '*/pg_internal.init'])
  .map(pattern => `--exclude=./${pattern}`);

/** The physical limit: zstd alone over the same files. No encryption, no checksums, no fsync, nothing restorable. */
export function zstd(bench: Bench): Contender {
  const directory = join(bench.runDirectory, 'zstd');
  const file = join(directory, 'data.tar.zst');
  const options = { user: bench.user, cwd: bench.runDirectory, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } };
  const shell = (script: string, ...args: string[]): readonly string[] => [
    '/bin/sh',
    '-c',
    script,
    'sh',
    ...args,
  ];
  return {
    name: 'zstd -3 -T2',
    settings: 'tar | zstd -3 -T2 of the same files, not encrypted, not synced: the physical limit',
    archiveCommand: 'exit 0',
    prepare: () => makeDirectory(directory, bench.user),
    backup: () =>
      measure(
        shell(
          'file=$1; shift; tar "$@" . | zstd -q -3 -T2 -f -o "$file"',
          file,
          ...['-C', bench.dataDirectory, '--warning=no-file-changed', ...EXCLUDED, '-cf', '-'],
        ),
        options,
      ),
    async restore(target) {
      await makeDirectory(target, bench.user);
      return measure(shell('zstd -q -d -c "$1" | tar -C "$2" -xf -', file, target), options);
    },
    repository: directory,
    storedBytes: async () => (await stat(file)).size,
    clear: () => removeTree(directory),
  };
}
