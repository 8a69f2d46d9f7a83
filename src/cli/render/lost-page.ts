import { counted, formatCount } from '../../base/sizes.ts';
import type { LostReport, LostTable } from '../../operations/lost/lost-report.ts';
import { describePart } from '../../operations/side/plan-files.ts';
import { describeTable } from '../../operations/timeline/table-changes.ts';
import { type Page, printable } from './page.ts';
import { formatTimeFine } from './time.ts';

const TABLES_SHOWN = 20;

/** What is lost, table by table, and where it was written to. */
export function drawLost(page: Page, report: LostReport): void {
  const { firstAt, lastAt, transactions, excluded } = report;
  page.line();
  if (transactions === 0) page.line('Nothing is lost: no other transaction was committed behind the target.');
  else
    page.line(
      `${counted(transactions, 'transaction')} lost, from ${formatTimeFine(firstAt ?? '')} to ${formatTimeFine(lastAt ?? '')}`,
    );
  for (const { xid, committedAt } of excluded)
    page.line(
      `Left out, as the disaster itself: transaction ${xid}, committed ${formatTimeFine(committedAt)}`,
    );
  page.section('By table', tableLines(report.tables));
  if (report.restored !== null)
    page.line(
      `\n${report.dryRun ? 'To be restored' : 'Restored'} to read them: ${printable(describePart(report.restored))}`,
    );
  page.section(
    'Not exported',
    (report.acts ?? []).map(act => `${act.act} of ${printable(describeTable(act))} (transaction ${act.xid})`),
  );
  if (report.files.length === 0 && !report.dryRun && transactions > 0) {
    page.line();
    page.line('Nothing was written: they changed no rows that can be exported.');
  }
  page.section(
    'Written',
    report.files.map(({ path, rows }) => `${printable(path)}: ${counted(rows, 'row')}`),
  );
  if ((report.unchanged ?? 0) > 0)
    page.line(
      `  ${formatCount(report.unchanged ?? 0)} updates left every value as it was: they need no statement`,
    );
  page.section(
    'Problems',
    report.problems.map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
  if (report.dryRun) page.line('\nNothing was written: this was a dry run.');
}

function tableLines(tables: readonly LostTable[]): string[] {
  const lines = tables.slice(0, TABLES_SHOWN).map(each => {
    const counts = [
      [each.inserted, 'inserted'],
      [each.updated, 'updated'],
      [each.deleted, 'deleted'],
      [each.gone, 'came and went'],
      [each.onTop, 'on top of the disaster'],
    ] as const;
    const parts = counts.flatMap(([count, what]) => (count === 0 ? [] : [`${formatCount(count)} ${what}`]));
    const name = describeTable({ ...each, partitionOf: null, estimatedRows: null });
    return `${printable(name)}: ${parts.join(', ')}`;
  });
  const more = tables.length - lines.length;
  return more > 0 ? [...lines, `and ${counted(more, 'more table')}`] : lines;
}
