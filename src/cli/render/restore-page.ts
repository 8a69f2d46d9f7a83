import { counted, formatAge, formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { RestoreReport } from '../../operations/restore/restore-report.ts';
import { describeRows } from './format-fact.ts';
import { drawLoss } from './loss-page.ts';
import { type Page, printable, RULE } from './page.ts';
import { formatTime } from './time.ts';

/** What is going to be restored: target, analysis, strategy. */
export function drawRestorePlan(page: Page, report: RestoreReport, now: Date): void {
  const { backup, target } = report;
  page.line();
  page.line(`Target: ${printable(target.requested)}`);
  if (target.found !== null) page.line(`        ${printable(target.found)}`);
  page.line();
  page.line(page.style.title('Analysis:'));
  page.check(
    `Base backup: ${printable(backup.name)} (${backup.id}), ${formatTime(backup.startTime)} (${age(backup.startTime, now)})`,
  );
  page.check(`Size: ${formatBytes(report.backupBytes)} in ${formatCount(backup.fileCount)} files`);
  page.check(
    `Log to replay: ${formatCount(report.logFiles)} file${report.logFiles === 1 ? '' : 's'} (${formatBytes(report.logBytes)}), without a gap`,
  );
  if (report.timeline > 1)
    page.check(`Timeline ${report.timeline} of the log is followed; --timeline chooses another`);
  if (target.lastKept !== null)
    page.check(`Last transaction kept: ${target.lastKept.xid}, ended ${target.lastKept.time}`);
  if (target.firstDropped !== null) {
    page.check(`First transaction dropped: ${target.firstDropped.xid}, ended ${target.firstDropped.time}`);
  }
  drawLoss(page, report);
  page.section(
    'Recovery Strategy',
    strategy(report).map((step, index) => `${index + 1}. ${step}`),
  );
}

function strategy(report: RestoreReport): readonly string[] {
  const { backup, target, mode, way, rewind } = report;
  const stop =
    target.firstDropped === null
      ? []
      : [
          `Stop before transaction ${target.firstDropped.xid}: it and all later ones will not be in the result`,
        ];
  if (rewind !== null) {
    const { amount } = rewind;
    return [
      `Rewind in place: ${way?.reason ?? ''}`,
      `Keep what is going to be changed: ${counted(amount.pagesKept, 'page')} (${formatBytes(amount.keptBytes)}) copied, ${formatCount(amount.filesReplaced + amount.filesRemoved)} files put aside`,
      `Take ${counted(amount.pagesFromBackup, 'page')} (${formatBytes(amount.writtenBytes)} with other files) from the backup${amount.copiedBytes === 0 ? '' : `, ${formatBytes(amount.copiedBytes)} that nothing has changed from files put aside`}; leave ${formatCount(amount.pagesLeft)} to the log, which overwrites them${amount.pagesSettled === 0 ? '' : `, and ${formatCount(amount.pagesSettled)} that are right already, as nothing changed them since the last checkpoint before the target`}; ${formatCount(amount.filesUntouched)} files are not touched`,
      target.lsn === null
        ? `Replay the log to ${target.requested}`
        : `Replay the log up to position ${target.lsn}`,
      ...stop,
      'Open it, then verify all pages, indexes, tables, foreign keys and row counts',
    ];
  }
  return [
    ...(way === null ? [] : [`Restore all of the backup beside the present state: ${way.reason}`]),
    `Start from the base backup (${formatTime(backup.startTime)})`,
    target.lsn === null
      ? `Replay the log to ${target.requested}`
      : `Replay the log up to position ${target.lsn}`,
    ...stop,
    'Verify pages, indexes, tables, foreign keys and row counts before it is opened',
    mode === 'in-place'
      ? 'Put it in the place of the present state, which is kept'
      : 'Leave it stopped, as a copy that cannot reach production',
  ];
}

/** What is going to be overwritten, before the typed confirmation. */
export function drawRestoreWarning(page: Page, report: RestoreReport, now: Date): void {
  const { backup, live, safety } = report;
  page.line();
  page.title('⚠️  RESTORE CONFIRMATION');
  page.line('You are about to restore:');
  page.line(`  Target: ${report.target.requested}`);
  page.line(`  Backup: ${printable(backup.name)} (${backup.id})`);
  page.line(`  Created: ${formatTime(backup.startTime)} (${age(backup.startTime, now)})`);
  page.line(`  Size: ${formatBytes(report.backupBytes)}`);
  if (live !== null) {
    page.section('Target database', [
      ['Instance', report.instance],
      ['Data directory', printable(live.dataDirectory)],
      [
        'Server',
        live.running ? `running, will be stopped (${report.service ?? 'unknown service'})` : 'stopped',
      ],
      ['Current size', live.totals === null ? null : formatBytes(live.totals.sizeBytes)],
      ['Tables', live.totals === null ? null : formatCount(live.totals.tables)],
      ['Rows', live.totals === null ? null : describeRows(live.totals.estimatedRows)],
      ['Connections', live.totals === null ? null : formatCount(live.totals.clientConnections)],
    ]);
  }
  page.line();
  page.line(page.style.warn('⚠️  WARNING: This will OVERWRITE the current database!'));
  page.section('What aishell will do', report.rewind === null ? fullSteps(safety) : rewindSteps(safety));
  page.line();
}

type Safety = RestoreReport['safety'];

function rewindSteps(safety: Safety): string[] {
  return [
    '1. Check that the backup is complete',
    '2. Stop the server, keep every page and file that is going to be changed',
    '3. Rewrite these from the backup, replay the log in isolation, check what was changed',
    '4. Start the server, then verify all of it',
    `Until it is open the server cannot be started otherwise; the current state is kept${safety === null ? '' : ` for ${safety.keepDays} days`}`,
  ];
}

function fullSteps(safety: Safety): string[] {
  return [
    '1. Check that the backup is complete',
    '2. Stop the server, restore beside the current state, replay and verify',
    `3. Only then swap: the current state is kept${safety === null ? '' : ` for ${safety.keepDays} days`}`,
    '4. Start the server',
  ];
}

/** The moment a person waits for: the rest is only looking. */
export function drawOpened(page: Page, facts: Readonly<Record<string, unknown>>): void {
  const seconds = typeof facts['seconds'] === 'number' ? formatSeconds(facts['seconds']) : '?';
  const downtime = facts['downtimeSeconds'];
  const down = typeof downtime === 'number' ? `, down for ${formatSeconds(downtime)}` : '';
  page.line();
  page.line(page.style.good(`✅ Open for queries after ${seconds}${down}. What follows only verifies it.`));
  page.line();
}

/** What was done. */
export function drawRestored(page: Page, report: RestoreReport): void {
  if (report.dryRun) {
    page.line();
    page.line('Nothing was changed: this was a dry run.');
    return;
  }
  page.line();
  page.line(page.style.dim(RULE));
  page.line();
  const good = report.problems.length === 0;
  page.line(
    good
      ? page.style.good(`✅ Recovery Complete in ${formatSeconds(report.seconds)}!`)
      : page.style.warn(`⚠️  Recovery complete in ${formatSeconds(report.seconds)}, with problems`),
  );
  drawVerification(page, report);
  page.section('Recovery Summary', [
    ['Recovery point', report.target.requested],
    ['Position', report.recovered?.reached.lsn ?? null],
    ['Last transaction kept', describeEdge(report.target.lastKept)],
    ['First transaction dropped', describeEdge(report.target.firstDropped)],
    ...restoredFacts(report),
    [
      'Log replayed',
      `${formatBytes(report.logBytes)}${report.rewind?.done?.isLogThinned ? ', but for what only concerns pages that are right already' : ''}`,
    ],
    ['New timeline', report.recovered === null ? null : String(report.recovered.timeline)],
  ]);
  if (report.copy !== null) {
    page.section('Copy', [
      ['Directory', report.copy.path],
      ['Port', String(report.copy.port)],
      ['Start it with', report.copy.startCommand],
    ]);
  } else {
    page.section('Database status', [
      `${page.style.good('✓')} Database online`,
      ['Downtime', report.downtimeSeconds === null ? null : formatSeconds(report.downtimeSeconds)],
    ]);
  }
  if (report.safety !== null) {
    page.section(`Old state kept for ${report.safety.keepDays} days`, [
      printable(report.safety.path),
      ['To go back', page.style.title(report.safety.goBack)],
    ]);
  }
  page.section(
    'Problems',
    report.problems.map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
}

function drawVerification(page: Page, { recovered }: RestoreReport): void {
  if (recovered === null) return;
  const { checks, pages } = recovered;
  page.line();
  page.line(page.style.title('Verification:'));
  if (pages === null) page.line('  - Page checksums are off on this server: pages were not checked');
  else page.check(`Page checksums: ${formatCount(pages.pages)} pages in ${formatCount(pages.files)} files`);
  const kinds = [
    ['Indexes', checks.indexes, true],
    ['Tables', checks.tables, true],
    ['Foreign keys', checks.foreignKeys, false],
    ['Row counts', checks.rows, false],
  ] as const;
  for (const [name, { total, checked, leftForTime, skipped, problems }, needsAmcheck] of kinds) {
    const left = leftForTime === 0 ? '' : `, ${formatCount(leftForTime)} left for time`;
    const passed = skipped.length === 0 ? '' : `, ${formatCount(skipped.length)} passed over`;
    const text = `${name}: ${formatCount(checked)} of ${formatCount(total)} checked${left}${passed}`;
    if (problems.length > 0)
      page.line(`  ${page.style.bad('✗')} ${text}, ${counted(problems.length, 'problem')}`);
    else if (total === 0 && needsAmcheck && checks.withoutAmcheck.length > 0)
      page.line(`  - ${name}: not checked`);
    else if (checked > 0 || total === 0) page.check(text);
    else page.line(`  - ${text}`);
  }
  for (const { database, table, rows } of checks.rows.counted.slice(0, 20)) {
    page.check(`${printable(database)}: ${printable(table)}: ${counted(rows, 'row')}`);
  }
  if (checks.withoutAmcheck.length > 0) {
    page.line(
      `  - amcheck is not installed in ${checks.withoutAmcheck.map(printable).join(', ')}: indexes and tables there were not checked`,
    );
  }
}

function restoredFacts({ rewind, backupBytes }: RestoreReport): [string, string | null][] {
  const done = rewind?.done ?? null;
  if (rewind === null) return [['Data restored', formatBytes(backupBytes)]];
  if (done === null) return [];
  const { amount } = rewind;
  return [
    ['Rewritten from the backup', formatBytes(done.writtenBytes)],
    ['Copied, unchanged', done.copiedBytes === 0 ? null : formatBytes(done.copiedBytes)],
    ['Left to the log', counted(amount.pagesLeft, 'page')],
    ['Right already', amount.pagesSettled === 0 ? null : counted(amount.pagesSettled, 'page')],
    ['Not touched', counted(amount.filesUntouched, 'file')],
    ['Kept of the old state', `${formatBytes(done.keptBytes)} of pages, and the files put aside`],
  ];
}

function describeEdge(edge: RestoreReport['target']['lastKept']): string | null {
  return edge === null ? null : `${edge.xid}, ended ${edge.time}`;
}

function age(iso: string, now: Date): string {
  return formatAge(now.getTime() - Date.parse(iso));
}
