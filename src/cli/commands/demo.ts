import { homedir } from 'node:os';
import { join } from 'node:path';
import { formatCount, formatSeconds } from '../../base/sizes.ts';
import type { DemoResult, KeptSite } from '../../operations/demo/run-demo.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { programFile } from '../program-files.ts';
import { type Page, RULE } from '../render/page.ts';

interface DemoOptions {
  readonly rows: number;
  readonly keep?: boolean;
}

/** `aishell demo` */
export function addDemo(cli: Cli): void {
  const command = cli.program
    .command('demo')
    .description('lose a table and bring it back, on a PostgreSQL of its own')
    .option(
      '--rows <n>',
      'users to begin with; 3214567 is the tutorial',
      wholeNumber(2000, 1_000_000_000),
      200_000,
    )
    .option('--keep', 'leave everything in place to look around');
  addExamples(command, [
    ['aishell demo', 'under a minute, nothing is left behind'],
    ['aishell demo --rows 3214567', "with the tutorial's users"],
    ['aishell demo --keep', 'and look around afterwards'],
  ]).action((options: DemoOptions) =>
    cli.run(command, {
      title: '🚨 A Disaster, Live',
      async run({ terminal, signal, onEvent }) {
        const { runDemo } = await import('../../operations/demo/run-demo.ts');
        const cache = terminal.env.XDG_CACHE_HOME || join(homedir(), '.cache');
        const deps = { programDirectory: programFile('.'), cacheDirectory: join(cache, 'aishell') };
        return await runDemo(deps, { rows: options.rows, keep: options.keep === true }, { signal, onEvent });
      },
      draw: drawDemo,
    }),
  );
}

function drawDemo(page: Page, result: DemoResult): void {
  const { seconds, disaster, found } = result;
  page.line();
  page.line(page.style.dim(RULE));
  page.line();
  drawUndone(page, result);
  page.line(page.style.good(`✅ Recovery Complete in ${seconds.restore.toFixed(1)} seconds!`));
  page.line();
  page.line(page.style.title('Verification:'));
  for (const { table, rows, checksum } of result.tables) {
    page.check(`${table}: ${formatCount(rows)} rows, checksum ${checksum} as before the disaster`);
  }
  page.section('Recovery Summary', [
    ['Server', result.server],
    ['Disaster', `${disaster.statement}: ${formatCount(disaster.usersDeleted)} rows`],
    ['Found', `transaction ${found.xid}, committed ${found.time}`],
    ['Recovery point', 'just before it'],
    [
      'Way back',
      result.way === 'rewind' ? 'rewind in place: only what had changed was written' : 'full restore',
    ],
    [
      'Data recovered',
      `${formatCount(disaster.usersDeleted)} users, ${formatCount(disaster.ordersLost)} orders`,
    ],
    ['Lost', `${formatCount(result.salesAfterTarget)} sales made after the recovery point`],
  ]);
  page.section('Measured', [
    ['Loading', formatSeconds(seconds.load)],
    ['Backup', `${formatSeconds(seconds.backup)}, while writers kept writing`],
    ['DELETE', formatSeconds(seconds.delete)],
    ['Finding it', formatSeconds(seconds.find)],
    ['Restore', formatSeconds(seconds.restore)],
    ['Outage', `${formatSeconds(seconds.outage)}, from the last sale before to the first one after`],
    ['In all', formatSeconds(result.totalSeconds)],
  ]);
  if (result.kept !== null) drawKept(page, result.kept);
}

function drawUndone(page: Page, { undone }: DemoResult): void {
  const { seconds } = undone;
  page.line(page.style.good(`✅ Undone in ${seconds.undo.toFixed(1)} seconds, with the server open!`));
  const answer = `${formatSeconds(Math.abs(seconds.beforeAnswer))} ${seconds.beforeAnswer >= 0 ? 'before' : 'after'} its answer`;
  page.section('The first time', [
    ['Noticed', `${formatSeconds(seconds.noticed)} after it began, ${answer}`],
    ['Writes stopped', `in ${formatSeconds(seconds.stop)}`],
    [
      'Rows from',
      undone.source === 'snapshot' ? 'the snapshot that the agent held' : 'a copy recovered beside it',
    ],
    ['Rows back', `${formatCount(undone.usersBack)} users, ${formatCount(undone.ordersBack)} orders`],
    ['Lost', `nothing: ${formatCount(undone.salesKept)} sales since then are still there`],
  ]);
  page.line();
}

function drawKept(page: Page, { directory, account, commands }: KeptSite): void {
  page.section('Kept', [
    ['Directory', directory],
    ['Runs as', account],
    '',
    '# look at the tables',
    commands.connect,
    '# the backups',
    commands.listBackups,
    '# stop the server, then remove everything',
    commands.stop,
    commands.remove,
  ]);
}
