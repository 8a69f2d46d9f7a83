import { formatCount, formatSeconds } from '../../base/sizes.ts';
import { describeTable, type TableRows } from '../../operations/timeline/table-changes.ts';
import type { TimelineReport, TimelineTransaction } from '../../operations/timeline/timeline-report.ts';
import { type Page, printable, truncate } from './page.ts';
import { sparkline } from './sparkline.ts';
import { wrapWords } from './wrap.ts';

const rows = [
  ['commits', 'commits'],
  ['inserted', 'inserted'],
  ['updated', 'updated'],
  ['deleted', 'deleted'],
] as const;
const LABEL_WIDTH = 11;
const TOTAL_WIDTH = 15;

/** How many columns of bars fit beside names and totals. */
export function barsWithin(width: number): number {
  return Math.max(10, Math.min(120, width - LABEL_WIDTH - TOTAL_WIDTH));
}

/** The whole timeline, in lines of at most `width` characters where that can be. */
export function drawTimeline(page: Page, report: TimelineReport, width: number): void {
  const { log } = report;
  page.line();
  page.line(`From: ${readable(report.from)}`);
  page.line(`To:   ${readable(report.to)}`);
  const segments = `${formatCount(log.segments)} segment${log.segments === 1 ? '' : 's'}`;
  page.line(`Log:  ${log.from} to ${log.to}, ${segments}, timeline ${report.timeline}`);
  if (report.table !== null) page.line(`Only: ${printable(report.table)}`);
  drawBars(page, report);
  drawGaps(page, report, width);
  drawTables(page, report, width);
  drawTransactions(page, report, width);
  for (const { xid, gid, time } of report.prepared) {
    const name = gid === null ? '' : ` '${gid}'`;
    const since = time === null ? '' : ` since ${readable(time)}`;
    page.line();
    put(page, `⚠️  Transaction ${xid} is prepared${name}${since}, and not ended.`, {
      width,
      paint: page.style.warn,
    });
  }
  if (report.restorePoints.length > 0) {
    page.line();
    page.line(page.style.title('Restore points:'));
  }
  for (const { name, time, restore } of report.restorePoints) {
    put(page, `${readable(time)}  ${name}`, { width, indent: '  ' });
    putCommand(page, 'to go back there:', restore, { width, indent: '    ' });
  }
  for (const problem of report.problems) {
    page.line();
    put(page, `⚠️  ${problem}`, { width, paint: page.style.warn });
  }
}

function drawBars(page: Page, report: TimelineReport): void {
  const { buckets, bucketSeconds } = report;
  page.line();
  page.line(page.style.title(`Activity, ${describeSpan(bucketSeconds)} in each column:`));
  for (const [name, column] of rows) {
    // The log does not say how many transactions touched a table.
    if (name === 'commits' && report.table !== null) continue;
    const bars = sparkline(buckets.map(bucket => bucket[column]));
    const isBad = name === 'deleted' && report.totals.deleted > 0;
    const shown = isBad ? page.style.bad(bars) : bars;
    page.line(`  ${name.padEnd(LABEL_WIDTH - 2)}${shown}  ${formatCount(report.totals[column])}`);
  }
  const [first] = buckets;
  const last = buckets.at(-1);
  if (first === undefined || last === undefined) return;
  const isLong = Date.parse(last.time) - Date.parse(first.time) >= 86_400_000;
  const short = (iso: string): string =>
    isLong ? iso.slice(5, 16).replace('T', ' ') : iso.slice(11, bucketSeconds < 60 ? 19 : 16);
  const begin = short(first.time);
  const gap = buckets.length - begin.length - short(last.time).length;
  const axis = gap > 1 ? `${begin}${' '.repeat(gap)}${short(last.time)}` : begin;
  page.line(`  ${' '.repeat(LABEL_WIDTH - 2)}${page.style.dim(axis)}`);
}

function describeSpan(seconds: number): string {
  const units = [
    [86_400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ] as const;
  const [size, unit] = units.find(([length]) => seconds % length === 0) ?? [1, 'second'];
  const count = seconds / size;
  return count === 1 ? `one ${unit}` : `${count} ${unit}s`;
}

function drawGaps(page: Page, { log }: TimelineReport, width: number): void {
  if (log.gaps.length === 0 && log.switches.length === 0) return;
  page.line();
  for (const { missing, from, to } of log.gaps) {
    const text = `⚠️  There is a gap in the log, ${from} to ${to}: ${missing} is missing.`;
    put(page, text, { width, paint: page.style.warn });
  }
  for (const { timeline, lsn } of log.switches)
    put(page, `At ${lsn} a recovery was ended: timeline ${timeline} begins.`, { width, indent: '  ' });
}

function drawTables(page: Page, report: TimelineReport, width: number): void {
  if (report.tables.length === 0) return;
  page.line();
  page.line(page.style.title('Busiest tables:'));
  const counts = (table: TableRows): readonly string[] =>
    [table.inserted, table.updated, table.deleted].map(formatCount);
  const cells = report.tables.map(counts);
  const heads = ['Inserted', 'Updated', 'Deleted'];
  const widths = heads.map((head, index) =>
    Math.max(head.length, ...cells.map(row => row[index]?.length ?? 0)),
  );
  const nameWidth = Math.max(12, width - 2 - widths.reduce((sum, each) => sum + each + 2, 0));
  const names = report.tables.map(table => truncate(printable(describeTable(table)), nameWidth));
  const nameColumn = Math.max(5, ...names.map(name => [...name].length));
  const line = (name: string, numbers: readonly string[]): string =>
    `  ${pad(name, nameColumn)}${numbers.map((text, index) => `  ${text.padStart(widths[index] ?? 0)}`).join('')}`;
  page.line(page.style.dim(line('Table', heads)));
  for (const [index, name] of names.entries()) page.line(line(name, cells[index] ?? []));
  if (report.otherTables > 0)
    page.line(page.style.dim(`  and ${formatCount(report.otherTables)} more; --limit shows more`));
}

function drawTransactions(page: Page, report: TimelineReport, width: number): void {
  const { transactions, otherTransactions, usualTransactions } = report;
  page.line();
  if (transactions.length === 0) {
    const text =
      report.totals.commits === 0
        ? 'Nothing was committed in this time, or its log is not archived.'
        : 'Nothing stands out: no table was dropped or truncated, and no large change was committed.';
    put(page, text, { width });
  } else {
    page.line(page.style.title('Transactions that stand out:'));
    for (const each of transactions) drawTransaction(page, each, width);
  }
  const notes = [
    ...(otherTransactions > 0 ? [`and ${formatCount(otherTransactions)} more; --limit shows more`] : []),
    ...(usualTransactions > 0
      ? [`${formatCount(usualTransactions)} large ones are usual for their tables, and left out`]
      : []),
  ];
  if (notes.length > 0) page.line();
  for (const note of notes) put(page, note, { width, indent: '  ', paint: page.style.dim });
}

/** The worst first, then what else it did: so many lines at most. */
const MOST_DETAILS = 4;
const LONG_SECONDS = 600;

function drawTransaction(page: Page, transaction: TimelineTransaction, width: number): void {
  const { style } = page;
  const { bad, warn, dim } = style;
  const mark = { drop: bad, truncate: bad, delete: bad, update: warn, insert: dim }[transaction.kind];
  const inner = { width, indent: '    ' };
  page.line();
  const gid = transaction.gid === null ? '' : `, prepared as '${transaction.gid}'`;
  const time = transaction.time === null ? 'at an unknown time' : readable(transaction.time);
  put(page, `${time}  transaction ${transaction.xid}${gid}`, { width, indent: '  ', paint: style.title });
  put(page, transaction.summary, { ...inner, paint: mark });
  const others = detailsOf(transaction).filter(text => !transaction.summary.startsWith(text));
  for (const text of others.slice(0, MOST_DETAILS)) put(page, text, inner);
  if (others.length > MOST_DETAILS) put(page, `and ${others.length - MOST_DETAILS} more`, inner);
  const end = transaction.commitLsn ?? 'an unknown position';
  const { atMostSeconds } = transaction;
  // Where nothing else goes on, what ended before it says little.
  const took =
    atMostSeconds === null || atMostSeconds > LONG_SECONDS
      ? ''
      : `took at most ${formatSeconds(atMostSeconds)}, `;
  put(page, `${took}log ${transaction.firstLsn} to ${end}`, { ...inner, paint: dim });
  if (transaction.undo !== null) putCommand(page, 'its rows alone:', transaction.undo, inner);
  if (transaction.restore !== null) putCommand(page, 'to just before it:', transaction.restore, inner);
  else put(page, 'no backup is old enough to go back to just before it', { ...inner, paint: dim });
}

function detailsOf({ tables, acts }: TimelineTransaction): string[] {
  const verbs = {
    drop: 'dropped',
    'drop database': 'dropped database',
    truncate: 'truncated',
    rewrite: 'rewrote',
    move: 'moved',
  } as const;
  const rowsOf = (table: TableRows): string[] =>
    (
      [
        ['deleted', table.deleted, 'of'],
        ['updated', table.updated, 'of'],
        ['inserted', table.inserted, 'into'],
      ] as const
    )
      .filter(([, count]) => count > 0)
      .map(
        ([verb, count, word]) =>
          `${verb} ${formatCount(count)} row${count === 1 ? '' : 's'} ${word} ${describeTable(table)}`,
      );
  return [...acts.map(each => `${verbs[each.act]} ${describeTable(each)}`), ...tables.flatMap(rowsOf)];
}

/** `2026-11-23 14:00:23.145678 UTC`. */
function readable(iso: string): string {
  return iso.replace('T', ' ').replace(/(?:\.000000)?Z$/, ' UTC');
}

function pad(text: string, width: number): string {
  return `${text}${' '.repeat(Math.max(0, width - [...text].length))}`;
}

/** A text in lines that fit, without what could steer the terminal. */
function put(
  page: Page,
  text: string,
  look: { readonly width: number; readonly indent?: string; readonly paint?: (plain: string) => string },
): void {
  const { width, indent = '', paint = (plain: string) => plain } = look;
  for (const line of wrapWords(printable(text), width - indent.length)) page.line(`${indent}${paint(line)}`);
}

/** A command is to be copied: it is never cut into lines. */
function putCommand(
  page: Page,
  label: string,
  command: string,
  { width, indent }: { readonly width: number; readonly indent: string },
): void {
  const { dim, title } = page.style;
  const fits = indent.length + label.length + 1 + command.length <= width;
  const [first, second] = [`${indent}${dim(label)}`, title(command)];
  for (const line of fits ? [`${first} ${second}`] : [first, `${indent}${second}`]) page.line(line);
}
