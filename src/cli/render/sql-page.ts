import { formatMoment } from '../../base/moment.ts';
import { counted, formatCount, formatSeconds } from '../../base/sizes.ts';
import { markPosition, type StatementFailure } from '../../engines/postgres/sql/statement-failure.ts';
import type { CascadeAction, RowEstimate } from '../../engines/postgres/sql/statement-outlook.ts';
import type { Column, TextRow } from '../../engines/postgres/sql/stream-statement.ts';
import type { TableEffect } from '../../engines/postgres/sql/table-effects.ts';
import type { Description } from '../../operations/sql/describe-tables.ts';
import type { Outlook } from '../../operations/sql/outlook.ts';
import type { Question } from '../../operations/sql/sql-context.ts';
import type { HistoryEntry } from '../../operations/sql/statement-history.ts';
import type { StatementReport } from '../../operations/sql/statement-report.ts';
import { type Page, printable, truncate } from './page.ts';
import { drawResult } from './result-table.ts';

const MOST_TABLES = 12;

/** What is known before a statement runs: nothing where nothing is. */
export function drawOutlook(page: Page, { remarks, estimates, sideEffects }: Outlook): void {
  const { style } = page;
  const write = (text: string): void => page.line(style.dim(`  ${printable(text)}`));
  for (const each of estimates) write(estimateText(each));
  for (const { table, trigger } of sideEffects.triggers) write(`trigger ${trigger} on ${table} fires`);
  for (const { table, action } of sideEffects.cascades) write(cascadeText(table, action));
  for (const rule of sideEffects.rules) write(`the rule ${rule} turns it into something else`);
  for (const remark of remarks) write(remark);
}

function estimateText({ operation, table, rows }: RowEstimate): string {
  return `${operation.toLowerCase()} in ${table}: about ${formatCount(rows)} row${rows === 1 ? '' : 's'}, by the planner's estimate`;
}

function cascadeText(table: string, action: CascadeAction): string {
  const does = {
    delete: 'loses rows with it (ON DELETE CASCADE)',
    update: 'is updated with it, where keys change (ON UPDATE CASCADE)',
    'set null': 'gets NULL in rows with it (SET NULL)',
    'set default': 'gets a default in rows with it (SET DEFAULT)',
    truncate: 'refers to it: CASCADE empties it too, and without it TRUNCATE is refused',
  }[action];
  return `foreign key: ${table} ${does}`;
}

/** Rows of a result. */
export function drawTable(
  page: Page,
  columns: readonly Column[],
  { rows, width }: { readonly rows: readonly TextRow[]; readonly width: number },
): void {
  for (const line of drawResult(columns, rows, { style: page.style, width })) page.line(line);
}

/** How many rows are shown, and how many are not. */
export function drawRowCount(page: Page, rows: number, { hidden }: StatementReport): void {
  const shown = `${formatCount(rows)} row${rows === 1 ? '' : 's'}`;
  if (hidden.rows === 0) {
    page.line(page.style.dim(`(${shown})`));
    return;
  }
  const more = `${hidden.atLeast ? 'at least ' : ''}${formatCount(hidden.rows)} more`;
  page.line(page.style.dim(`(${shown}, … ${more}: --limit 0 shows all)`));
}

/** What a statement has done, in as few lines as it takes. */
export function drawReport(page: Page, report: StatementReport): void {
  const { style } = page;
  const isQuiet = report.outcome === 'done' && report.columns !== null;
  if (!isQuiet) {
    const words = {
      done: '',
      committed: ' · committed',
      open: ' · not committed yet',
      'rolled back': ' · rolled back',
      'dry run': ' · dry run, rolled back',
    }[report.outcome];
    const xid = report.outcome === 'committed' && report.xid !== null ? ` · transaction ${report.xid}` : '';
    const mark =
      report.outcome === 'committed' || report.outcome === 'done' ? style.good('✓') : style.warn('○');
    page.line(`${mark} ${report.tag ?? report.command}${style.dim(`${words}${xid}`)}`);
  }
  if (report.tables.length > 1 || !isTold(report))
    for (const line of effectLines(report.tables)) page.line(`  ${line}`);
  if (report.reasons.length > 0 && report.outcome !== 'rolled back') {
    const heading = report.outcome === 'dry run' ? 'run for real, it has to be confirmed' : 'confirmed';
    page.line(`  ${style.warn(heading)}: ${printable(report.reasons.join('; '))}`);
  }
  const { sampleKeys } = report;
  if (sampleKeys.length > 0) page.line(`  for example: ${printable(sampleKeys.join('; '))}`);
}

/** Whether the server's word says all that happened to the one table. */
function isTold({ tag, tables }: StatementReport): boolean {
  const [only] = tables;
  if (only === undefined) return true;
  const count = only.inserted + only.updated + only.deleted;
  return only.whole === null && new RegExp(` ${count}$`).test(tag ?? '');
}

function effectLines(tables: readonly TableEffect[]): readonly string[] {
  const lines = tables
    .slice(0, MOST_TABLES)
    .map(effect => `${printable(effect.table)}: ${effectText(effect)}`);
  return tables.length > MOST_TABLES ? [...lines, `… and ${tables.length - MOST_TABLES} more tables`] : lines;
}

function effectText(effect: TableEffect): string {
  const parts = (['deleted', 'updated', 'inserted'] as const)
    .filter(name => effect[name] > 0)
    .map(name => `${formatCount(effect[name])} ${name}`);
  if (effect.whole !== null) {
    const lost = effect.lostRows;
    const rows = lost === null ? '' : ` (${effect.isEstimate ? 'about ' : ''}${counted(lost, 'row')})`;
    parts.unshift(`${effect.whole}${rows}`);
  }
  return parts.join(', ');
}

/** What has to be confirmed, and what it would do. `answerSeconds` is null where there is nobody to ask. */
export function drawQuestion(page: Page, question: Question, answerSeconds: number | null): void {
  const { style } = page;
  page.line();
  page.line(style.warn(style.title('⚠️  This needs a confirmation:')));
  for (const reason of question.reasons) page.line(`  - ${printable(reason)}`);
  if (question.changedMeanwhile)
    page.line(`  ${style.bad('It did something else than you confirmed, and was taken back: look again.')}`);
  const { tried } = question;
  if (tried !== null) {
    page.line('It was tried and taken back. It would do this:');
    const lines = effectLines(tried.tables);
    for (const line of lines.length > 0 ? lines : [tried.tag ?? 'nothing that is counted'])
      page.line(`  ${line}`);
    if (tried.sampleKeys.length > 0) page.line(`  for example: ${printable(tried.sampleKeys.join('; '))}`);
  }
  if (answerSeconds !== null) page.line(style.dim(waitText(question, answerSeconds)));
}

function waitText({ holdsLocks, tried }: Question, answerSeconds: number): string {
  if (holdsLocks) {
    const time = formatSeconds(answerSeconds);
    return `Your open transaction keeps its locks meanwhile: without an answer in ${time} it is rolled back.`;
  }
  if (tried === null) return 'It is not tried beforehand.';
  return 'No lock is held while you think. It runs again then, and stays only if it does the same.';
}

export function questionText({ phrase }: Question): string {
  return `Type '${phrase}' to run it for real: `;
}

/** The way back, with commands to paste. */
export function drawRecovery(
  page: Page,
  commands: { readonly undo: string | null; readonly restore: string },
): void {
  page.line('  To take it back:');
  if (commands.undo !== null) {
    page.line(page.style.dim('    # its rows alone; everything stays open'));
    page.line(`    ${commands.undo}`);
  }
  page.line(page.style.dim('    # the whole instance, to just before it'));
  page.line(`    ${commands.restore}`);
}

/** A statement's error as psql shows it. */
export function failureLines(failure: StatementFailure, text: string): readonly string[] {
  return [
    ...(failure.position === null ? [] : markPosition(text, failure.position).map(line => printable(line))),
    ...(failure.detail === null ? [] : [`DETAIL:  ${printable(failure.detail)}`]),
    ...(failure.context === null ? [] : [`CONTEXT:  ${printable(failure.context)}`]),
  ];
}

export function drawDescription(page: Page, description: Description, width: number): void {
  const { title, head, rows, notes } = description;
  page.line(page.style.title(printable(title)));
  const columns = head.map(name => ({ name, typeOid: 0 }));
  if (rows.length > 0) drawTable(page, columns, { rows, width });
  for (const note of notes) page.line(`  ${printable(note)}`);
}

export function drawHistory(page: Page, entries: readonly HistoryEntry[], width: number): void {
  if (entries.length === 0) page.line('No statement is recorded yet.');
  for (const entry of entries) {
    const time = formatMoment(BigInt(Date.parse(entry.at)) * 1000n);
    const rows = entry.rows === null || entry.rows === 0 ? '' : `, ${counted(entry.rows, 'row')}`;
    const xid = entry.xid === null ? '' : `, transaction ${entry.xid}`;
    const who = `${entry.user} as ${entry.role} in ${entry.database}`;
    page.line(page.style.dim(printable(`${time}  ${who}  ${entry.outcome}${rows}${xid}`)));
    page.line(`  ${truncate(printable(entry.statement.replace(/\s+/g, ' ')), width - 2)}`);
    if (entry.error !== null) page.line(`  ${page.style.bad(truncate(printable(entry.error), width - 2))}`);
  }
}
