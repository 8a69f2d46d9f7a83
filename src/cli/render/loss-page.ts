import { counted, formatCount } from '../../base/sizes.ts';
import type { RestoreReport } from '../../operations/restore/restore-report.ts';
import { describeTable } from '../../operations/timeline/table-changes.ts';
import { type Page, printable } from './page.ts';

const MOST_TABLES = 10;

/** What a restore gives up of what was committed behind its target, and how that can be kept. */
export function drawLoss(page: Page, report: RestoreReport): void {
  const { loss, mode, target } = report;
  if (loss === null) return;
  const { style } = page;
  const count = `${formatCount(loss.transactions)} transaction${loss.transactions === 1 ? '' : 's'}`;
  if (loss.transactions === 0) {
    page.section('After the target', ['Nothing was committed: nothing is lost']);
    return;
  }
  const acts = loss.acts.map(each => {
    const verb = {
      drop: 'dropped',
      'drop database': 'dropped',
      truncate: 'truncated',
      rewrite: 'rewritten',
      move: 'moved',
    }[each.act];
    return `${printable(describeTable(each))}: ${verb}, that is undone`;
  });
  const tables = loss.tables.map(table => {
    const counts = [
      ['inserted', table.inserted],
      ['updated', table.updated],
      ['deleted', table.deleted],
    ] as const;
    const parts = counts.filter(([, rows]) => rows > 0).map(([verb, rows]) => `${formatCount(rows)} ${verb}`);
    return `${printable(describeTable(table))}: ${parts.join(', ')}`;
  });
  const lines = [...acts, ...tables];
  const more = lines.length - MOST_TABLES;
  page.section(mode === 'in-place' ? 'Lost with it, committed after the target' : 'Not in the copy', [
    style.warn(
      `${count}, the last one ${loss.lastTime === null ? 'at an unknown time' : readable(loss.lastTime)}`,
    ),
    ...lines.slice(0, MOST_TABLES),
    ...(more > 0 ? [`and ${counted(more, 'more table')}`] : []),
    ...(loss.countedTo === null
      ? []
      : [style.warn(`Not counted is what lies behind a gap in the log: ${loss.countedTo} is missing`)]),
  ]);
  if (mode !== 'in-place' || target.lsn === null) return;
  const { instance, timeline } = report;
  page.section('To save it, before or afterwards', [
    target.isBefore
      ? 'As SQL or CSV, without the transaction that is undone (with this restore: --export-lost DIRECTORY):'
      : 'As SQL or CSV (with this restore: --export-lost DIRECTORY):',
    style.title(saveCommand(report)),
    'All of it, as a copy of the present state beside the instance:',
    style.title(
      `aishell backup restore --latest --timeline ${timeline} --instance ${instance} --target DIRECTORY`,
    ),
  ]);
}

function saveCommand({ target, timeline, instance }: RestoreReport): string {
  const { lsn, isBefore, firstDropped } = target;
  const excluded = isBefore && firstDropped !== null ? ` --exclude-xid ${firstDropped.xid}` : '';
  return `aishell backup lost --lsn ${lsn} --timeline ${timeline}${excluded} --instance ${instance} --output DIRECTORY`;
}

function readable(iso: string): string {
  return iso.replace('T', ' ').replace(/(?:\.000000)?Z$/, ' UTC');
}
