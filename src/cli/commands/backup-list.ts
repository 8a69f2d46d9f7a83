import type { Command } from 'commander';
import { counted, formatAge, formatBytes } from '../../base/sizes.ts';
import type { BackupList, ListedBackup } from '../../operations/backup/list-backups.ts';
import type { RecoveryWindow } from '../../operations/backup/recovery-window.ts';
import { describeOutlook } from '../../operations/recovery-time/describe-outlook.ts';
import type { RecoveryOutlook } from '../../operations/recovery-time/recovery-outlook.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { type Page, printable, truncate } from '../render/page.ts';
import { formatTime, formatTimeShort } from '../render/time.ts';

/** What is listed, and the moments between that can be recovered to; null: none. */
type ListWithWindow = BackupList & { readonly window: RecoveryWindow | null };

/** `aishell backup list` */
export function addBackupList(cli: Cli, group: Command): void {
  const command = group.command('list').description('list the backups of the instance, newest first');
  addExamples(command, [
    ['aishell backup list', 'all backups'],
    ['aishell backup list --json', 'the same for a script'],
  ]).action(() =>
    cli.run(command, {
      async run(run) {
        const [{ listBackups }, { recoveryWindow }, context] = await Promise.all([
          import('../../operations/backup/list-backups.ts'),
          import('../../operations/backup/recovery-window.ts'),
          openCommandInstance(run),
        ]);
        const listed = await listBackups(context, run.signal);
        const backups = listed.backups.flatMap(({ backup }) => (backup === null ? [] : [backup]));
        const list = { ...listed, window: await recoveryWindow(context, backups, run.signal) };
        // Without an objective nobody waits for a server to answer what nobody asked.
        if (context.recoveryTimeObjectiveSeconds === null) return { ...list, recovery: null };
        const { recoveryOutlook } = await import('../../operations/recovery-time/recovery-outlook.ts');
        return { ...list, recovery: await recoveryOutlook(context, run.signal) };
      },
      draw: (page, { recovery, ...list }) => {
        drawList(page, list, new Date());
        if (recovery !== null) drawRecovery(page, recovery);
      },
    }),
  );
}

/** The table of the tutorial and what is below it. */
function drawList(page: Page, list: ListWithWindow, now: Date): void {
  page.title('📋 Available Backups');
  if (list.backups.length === 0) {
    page.line(`There are no backups yet at ${list.location}.`);
    page.line("Run 'aishell backup create' to make one.");
    return;
  }
  page.table(
    ['Name', 'ID', 'Date (UTC)', 'Size', 'Type', 'Status'],
    list.backups.map(each => tableRow(page, each)),
  );
  page.line();
  page.line(`Total: ${counted(list.backups.length, 'backup')}`);
  page.line(`Total size: ${formatBytes(list.storedBytes)} (compressed)`);
  const times = list.backups.flatMap(each => (each.backup === null ? [] : [each.backup.startTime]));
  const [newest, oldest] = [times[0], times.at(-1)];
  const age = (iso: string): string => formatAge(now.getTime() - Date.parse(iso));
  if (oldest !== undefined) page.line(`Oldest: ${formatTime(oldest)} (${age(oldest)})`);
  if (newest !== undefined) page.line(`Newest: ${formatTime(newest)} (${age(newest)})`);
  page.line();
  drawLog(page, list, now);
  for (const { id, problem } of list.backups) {
    if (problem !== null) page.line(`${page.style.bad('✗')} ${id}: ${problem}`);
  }
}

/** Estimate and objective side by side; `backup health` says more. */
function drawRecovery(page: Page, outlook: RecoveryOutlook): void {
  const line = `A recovery would take ${describeOutlook(outlook)}`;
  page.line();
  page.line(
    outlook.state === 'passed' ? page.style.bad(`✗ ${line}. See: aishell backup health`) : `⏱  ${line}`,
  );
}

function tableRow(page: Page, { id, status, backup }: ListedBackup): readonly string[] {
  if (backup === null) return ['-', id, '-', '-', '-', page.style.bad('✗ Damaged')];
  const type = `${backup.type.slice(0, 1).toUpperCase()}${backup.type.slice(1)}`;
  return [
    truncate(printable(backup.name), 24),
    id,
    formatTimeShort(backup.startTime),
    formatBytes(backup.storedBytes),
    type,
    status === 'valid' ? page.style.good('✓ Valid') : page.style.bad('✗ Damaged'),
  ];
}

function drawLog(page: Page, { log, window, backups }: ListWithWindow, now: Date): void {
  if (log.newest === null || log.newestStored === null) {
    page.line('No log is archived: each backup can be restored to its own end only. See: aishell doctor');
    return;
  }
  const stored = `${formatTime(log.newestStored)} (${formatAge(now.getTime() - Date.parse(log.newestStored))})`;
  if (window === null) {
    page.line(
      page.style.warn(
        '⚠️  Point-in-Time Recovery not available: the log behind the newest backup has a gap, or cannot be read',
      ),
    );
    page.line(`   To make it available: ${page.style.title('aishell backup create')}`);
  } else {
    const name = backups.find(({ id }) => id === window.backup)?.backup?.name ?? window.backup;
    page.line('💡 Point-in-Time Recovery available');
    page.line(
      `   Can restore to any moment from ${formatTime(window.from)} (end of ${printable(name)}) up to the newest log that is archived`,
    );
  }
  page.line(
    `   Log archived: ${counted(log.segments, 'segment')}, ${formatBytes(log.storedBytes)}, the newest stored ${stored}`,
  );
}
