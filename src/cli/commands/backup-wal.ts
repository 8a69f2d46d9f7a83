import type { Command } from 'commander';
import { counted, formatBytes } from '../../base/sizes.ts';
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
  const summarize = group
    .command('wal-summarize')
    .description('make the summaries of the archived log that are missing (wal-archive starts it)')
    .option('--lock <path>', 'do nothing while another process holds this');
  addExamples(summarize, [
    ['aishell backup wal-summarize', 'so that timelines and recoveries need not read the log'],
  ]).action(({ lock }: { lock?: string }) =>
    cli.run(summarize, {
      async run(run) {
        const { summarizeInBackground } = await import('../../operations/log/summarize-log.ts');
        return await summarizeInBackground(
          await openCommandInstance(run),
          { lock: lock ?? null },
          run.signal,
        );
      },
      draw: (page, { made }) => page.line(`${counted(made, 'segment')} summarised`),
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
