import type { Command } from 'commander';
import { formatBytes } from '../../base/sizes.ts';
import { addExamples, type Cli } from '../cli.ts';
import { NOT_ARCHIVED } from '../hot/exit-codes.ts';
import { openCommandInstance } from '../open-instance.ts';

/** `aishell backup wal-archive` and `wal-fetch`, when they are run by a person; PostgreSQL takes the way in hot/. */
export function addBackupWal(cli: Cli, group: Command): void {
  const archive = group
    .command('wal-archive')
    .description("store a segment of the server's log (for archive_command)")
    .argument('<path>', "PostgreSQL's %p");
  addExamples(archive, [["archive_command = 'aishell backup wal-archive %p'", 'in postgresql.conf']]).action(
    (path: string) =>
      cli.run(archive, {
        async run(run) {
          const { archiveSegment } = await import('../../operations/log/archive-segment.ts');
          const { repository, instance, level } = await openCommandInstance(run);
          return await archiveSegment(repository, { instance, path, level }, run.signal);
        },
        draw: (page, { name, outcome, sizeBytes }) =>
          page.line(
            `${name}: ${outcome === 'stored' ? 'archived' : 'was archived already'} (${formatBytes(sizeBytes)})`,
          ),
      }),
  );
  const fetch = group
    .command('wal-fetch')
    .description("bring back a segment of the server's log (for restore_command)")
    .argument('<name>', "PostgreSQL's %f")
    .argument('<path>', "PostgreSQL's %p");
  addExamples(fetch, [["restore_command = 'aishell backup wal-fetch %f %p'", 'in postgresql.conf']]).action(
    (name: string, path: string) =>
      cli.run(fetch, {
        async run(run) {
          const { fetchSegment } = await import('../../operations/log/fetch-segment.ts');
          const { repository, instance } = await openCommandInstance(run);
          return { name, found: await fetchSegment(repository, { instance, name, path }) };
        },
        draw: (page, { found }) => page.line(`${name}: ${found ? `written to ${path}` : 'is not archived'}`),
        exitCode: ({ found }) => (found ? 0 : NOT_ARCHIVED),
      }),
  );
}
