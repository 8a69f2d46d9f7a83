import type { Command } from 'commander';
import { counted, formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { ListedBackup } from '../../operations/backup/list-backups.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { describeRows } from '../render/format-fact.ts';
import { type Page, printable } from '../render/page.ts';
import { formatTime } from '../render/time.ts';

interface ShownBackup {
  readonly backup: NonNullable<ListedBackup['backup']>;
  readonly packs: number;
  /** Packs of other backups that this one refers to, and of how many backups. */
  readonly sharedPacks: number;
  readonly sharedBackups: number;
  readonly location: string;
}

/** `aishell backup show ID` */
export function addBackupShow(cli: Cli, group: Command): void {
  const command = group
    .command('show')
    .description('show one backup in full')
    .argument('<id>', 'its id, the last characters of it, or its name');
  addExamples(command, [
    ['aishell backup show before-migration', 'by its name'],
    ['aishell backup show a1b2c3', 'by the end of its id'],
  ]).action((id: string) =>
    cli.run(command, {
      async run(run): Promise<ShownBackup> {
        const { findBackup } = await import('../../operations/backup/list-backups.ts');
        const context = await openCommandInstance(run);
        const manifest = await findBackup(context, id, run.signal);
        const shared = manifest.packs.filter(pack => pack.backup !== manifest.backup.id);
        return {
          backup: manifest.backup,
          packs: manifest.packs.length,
          sharedPacks: shared.length,
          sharedBackups: new Set(shared.map(pack => pack.backup)).size,
          location: context.repository.storage.description,
        };
      },
      draw: drawBackup,
    }),
  );
}

function drawBackup(page: Page, shown: ShownBackup): void {
  const { backup, packs, location } = shown;
  page.title(`🗄️  Backup: ${printable(backup.name)}`);
  page.line(`  ID: ${backup.id}`);
  page.line(`  Instance: ${backup.instance}`);
  page.line(`  Type: ${backup.type}${backup.parent === undefined ? '' : `, on ${backup.parent}`}`);
  if (backup.parent !== undefined && backup.newBytes !== undefined)
    page.line(
      `  Copied anew: ${formatBytes(backup.newBytes)} of ${formatBytes(backup.sizeBytes)}, changes found by the ${backup.changesBy}`,
    );
  page.line(`  Created: ${formatTime(backup.startTime)}, in ${formatSeconds(backup.durationSeconds)}`);
  page.line(
    `  Size: ${formatBytes(backup.storedBytes)} (compressed from ${formatBytes(backup.newBytes ?? backup.sizeBytes)}, ${backup.compression})`,
  );
  page.line(`  Location: ${location}`);
  page.section('Content', [
    ['Databases', backup.databases.map(printable).join(', ')],
    ['Tables', formatCount(backup.tables)],
    ['Indexes', formatCount(backup.indexes)],
    ['Rows', describeRows(backup.estimatedRows)],
    ['Files', `${formatCount(backup.fileCount)} in ${counted(packs, 'pack')}`],
    ...(shown.sharedPacks === 0
      ? []
      : [
          [
            'Of these',
            `${formatCount(shown.sharedPacks)} packs are those of ${formatCount(shown.sharedBackups)} earlier backup${shown.sharedBackups === 1 ? '' : 's'}, and must stay`,
          ] as const,
        ]),
    ...backup.tablespaces.map(
      ({ name, path }) => [`Tablespace ${printable(name)}`, printable(path)] as const,
    ),
  ]);
  page.section('Server', [
    ['PostgreSQL', formatVersion(backup.serverVersion)],
    ['System identifier', backup.systemIdentifier],
    ['Data directory', printable(backup.dataDirectory)],
    [
      'Page checksums',
      backup.pageChecksums
        ? `on, every page${backup.parent === undefined ? '' : ' copied anew'} was checked`
        : 'off',
    ],
  ]);
  page.section('Recovery', [
    ['From', `${formatTime(backup.stopTime)} (position ${backup.stopLsn}, timeline ${backup.timeline})`],
    [
      'Log',
      backup.logArchived
        ? 'archived: later points can be reached too'
        : 'in the backup: its own end can be reached',
    ],
  ]);
  if (backup.damagedPages.length > 0) {
    const pages = backup.damagedPages
      .slice(0, 20)
      .map(({ path, block }) => `${printable(path)}, block ${block}`);
    page.section(`Damaged on the server's own disk (${counted(backup.damagedPages.length, 'page')})`, pages);
  }
}

/** `180004` as people say it: 18.4. */
function formatVersion(version: number): string {
  return `${Math.floor(version / 10_000)}.${version % 10_000}`;
}
