import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { AnalysisSummary } from '../../operations/backup/analyze-instance.ts';
import type { CreateBackupRequest, CreateBackupResult } from '../../operations/backup/create-backup.ts';
import { addExamples, type Cli, nameOption, wholeNumber } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { describeRows } from '../render/format-fact.ts';
import { type Page, printable, RULE } from '../render/page.ts';
import { formatSecondsRange, formatTime } from '../render/time.ts';

interface CreateOptions {
  readonly name?: string;
  readonly workers?: number;
  readonly parallel?: boolean;
  readonly dryRun?: boolean;
  readonly type?: CreateBackupRequest['type'];
}

/** `aishell backup create` */
export function addBackupCreate(cli: Cli, group: Command): void {
  const command = group
    .command('create')
    .description('back up the instance while it runs, and verify the backup')
    .option('--name <name>', 'a name to find it by', nameOption)
    .addOption(
      new Option(
        '--type <type>',
        'full: everything; differential: what changed since the newest full backup; incremental: since the newest of any kind',
      ).choices(['full', 'differential', 'incremental']),
    )
    .option('--workers <n>', 'threads that read, compress and encrypt', wholeNumber(1, 64))
    .option('--parallel', 'use every processor, unless --workers says how many')
    .option('--dry-run', 'look and estimate, change nothing');
  addExamples(command, [
    ['aishell backup create --name "before-migration"', 'a backup with a name'],
    ['aishell backup create --type incremental', 'only what changed since the last backup'],
    ['aishell backup create --parallel --workers 8', 'with eight threads'],
    ['aishell backup create --dry-run', 'how long would it take, how large would it be?'],
  ]).action((options: CreateOptions) =>
    cli.run(command, {
      title:
        options.dryRun === true ? '🗄️  Planning a Backup' : `🗄️  Creating Backup: ${options.name ?? 'backup'}`,
      async run(run) {
        const { createBackup } = await import('../../operations/backup/create-backup.ts');
        const workers = options.workers ?? (options.parallel === true ? availableParallelism() : undefined);
        const context = await openCommandInstance(run, { workers });
        const request = {
          name: options.name ?? null,
          type: options.type ?? context.backupType,
          dryRun: options.dryRun === true,
        };
        return await createBackup(context, request, run);
      },
      drawFacts: {
        analysis: (page, facts) => drawAnalysis(page, facts as unknown as Parameters<typeof drawAnalysis>[1]),
      },
      draw: drawCreated,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}

function drawAnalysis(
  page: Page,
  facts: AnalysisSummary & { readonly type: CreateBackupRequest['type'] },
): void {
  const what = facts.type === 'full' ? 'backup' : 'full backup';
  page.line(`    Server: PostgreSQL ${printable(facts.serverVersion)}`);
  page.line(`    Database size: ${formatBytes(facts.databaseBytes)}`);
  page.line(`    Tables: ${formatCount(facts.tables)}`);
  page.line(`    Indexes: ${formatCount(facts.indexes)}`);
  page.line(`    Rows: ${describeRows(facts.estimatedRows)}`);
  page.line();
  page.line(
    `Estimated ${what} time: ${formatSecondsRange(facts.estimate.secondsLow, facts.estimate.secondsHigh)}`,
  );
  page.line(
    `Estimated ${what} size: ${formatBytes(facts.estimate.storedBytes)} (compressed from ${formatBytes(facts.fileBytes)})`,
  );
  page.line();
}

function drawIncrement(page: Page, increment: NonNullable<CreateBackupResult['increment']>): void {
  const { parent, reason, readBytes, newBytes, newPages, storedBytes } = increment;
  page.section('Incremental', [
    ['Type', parent === null ? 'full' : `${increment.type}, on ${parent}`],
    ['Because', reason],
    ['Changes', increment.changesBy === null ? null : `found by the ${increment.changesBy}`],
    ['To read', `about ${formatBytes(readBytes)}`],
    [
      'To store',
      `about ${formatBytes(newBytes)} (${formatCount(newPages)} pages), ${formatBytes(storedBytes)} compressed`,
    ],
  ]);
  page.line();
}

function drawCreated(page: Page, result: CreateBackupResult): void {
  const { backup, verification } = result;
  if (backup === null) {
    if (result.increment !== null) drawIncrement(page, result.increment);
    page.line('Nothing was changed: this was a dry run.');
    return;
  }
  page.line();
  page.line(page.style.dim(RULE));
  page.line();
  page.line(
    result.problems.length === 0
      ? page.style.good('✅ Backup Complete!')
      : page.style.warn('⚠️  Backup complete, with problems'),
  );
  page.section('Backup Details', [
    ['Name', printable(backup.name)],
    ['ID', backup.id],
    ['Type', typeLine(backup)],
    [
      'Size',
      `${formatBytes(backup.storedBytes)} (compressed from ${formatBytes(backup.newBytes ?? backup.sizeBytes)})`,
    ],
    ['Duration', formatSeconds(backup.durationSeconds)],
    ['Location', result.location],
    ['Checksum', result.manifestSha256 === null ? null : `sha256:${result.manifestSha256}`],
  ]);
  if (verification !== null) {
    page.line();
    page.line(page.style.title('Verification:'));
    page.check('Checksum verified');
    page.check(
      `Backup structure complete (${formatCount(verification.packs)} packs, ${formatCount(verification.files)} files)`,
    );
    page.check(
      `Test restore of a sample: ${formatCount(verification.sampledFrames)} of ${formatCount(verification.frames)} pieces, ${formatBytes(verification.sampledBytes)}`,
    );
  }
  page.section('Point-in-Time Recovery', [
    ...(backup.logArchived
      ? [
          'Can restore to any point from:',
          `${formatTime(backup.stopTime)} (backup end)`,
          'up to the newest log that is archived.',
        ]
      : [
          'Can restore to:',
          `${formatTime(backup.stopTime)} (backup end)`,
          'and to no later point, as the log is not archived.',
        ]),
  ]);
  page.section('Storage', [['Primary', result.location]]);
  if (result.problems.length > 0)
    page.section(
      'Problems',
      result.problems.map(problem => `${page.style.warn('⚠️ ')} ${problem}`),
    );
}

/** A full backup is what everybody expects; of the others it is said what they go on from. */
function typeLine(backup: NonNullable<CreateBackupResult['backup']>): string | null {
  if (backup.parent === undefined) return null;
  return `${backup.type}, on ${backup.parent}: ${formatBytes(backup.newBytes ?? 0)} of ${formatBytes(backup.sizeBytes)} copied anew, changes found by the ${backup.changesBy}`;
}
