import { counted, formatCount, formatSeconds } from '../../base/sizes.ts';
import { describePart } from '../../operations/side/plan-files.ts';
import {
  describeLeft,
  type LeftRows,
  type UndoneTable,
  type UndoReport,
  type UndoTableFacts,
} from '../../operations/undo/undo-report.ts';
import { type Page, printable } from './page.ts';
import { formatTime } from './time.ts';

/** What will be put back, and what not: before the question, and after a dry run. */
export function drawUndoPlan(page: Page, report: UndoReport): void {
  const { transaction, source } = report;
  const parts =
    transaction.subtransactions === 0 ? '' : `, with ${formatCount(transaction.subtransactions)} savepoints`;
  page.section('Transaction', [
    ['Number', `${transaction.xid}${parts}`],
    ['Committed', formatTime(transaction.committedAt)],
    ['Database', printable(report.database)],
    ['Incident', report.incident],
    ['Rows come from', printable(source.text)],
    ['Restored for it', source.restored === null ? null : printable(describePart(source.restored))],
  ]);
  page.line();
  page.table(
    ['Table', 'Destroyed', 'To insert', 'To set back', 'As before', 'Left'],
    report.tables.map(each => [
      nameOf(each),
      formatCount(each.destroyed),
      formatCount(each.toInsert),
      formatCount(each.toSetBack),
      formatCount(each.present),
      formatCount(leftRows(each)),
    ]),
  );
  drawLeft(page, report);
  page.section('Destroyed as well, and not asked for', report.others.map(printable));
  page.section('Triggers that will fire', report.triggers.map(printable));
  page.line();
  if (report.tables.some(each => each.toInsert + each.toSetBack > 0))
    page.line(`Estimated time: ${formatSeconds(report.estimatedSeconds)}. Later writes stay.`);
  else page.line('There is nothing to put back.');
}

/** The tutorial's end of a recovery: what is back, what is not, and how that is known. */
export function drawUndone(page: Page, report: UndoReport): void {
  if (report.undone === null) {
    drawUndoPlan(page, report);
    page.line('Nothing was changed: this was a dry run.');
    return;
  }
  const { source, merge, gather, compare } = report.seconds;
  const back = report.undone.reduce((sum, each) => sum + each.proof.rows, 0);
  const text = `${formatCount(back)} rows are as they were before transaction ${report.transaction.xid}`;
  page.line();
  page.line(
    report.problems.length === 0
      ? page.style.good(`✅ Undone: ${text}`)
      : page.style.warn(`⚠️  Undone, with rows left: ${text}`),
  );
  page.line();
  page.table(
    ['Table', 'Destroyed', 'Inserted', 'Set back', 'As before now', 'Left', 'Checksums'],
    report.undone.map((each, index) => rowOf(each, report.tables[index])),
  );
  drawLeft(page, report);
  page.section('Verification', [
    `${counted(back, 'row')} compared with the source by a hash of all their values`,
    ...(report.references === null
      ? []
      : [
          `${formatCount(report.references.checked)} foreign ${report.references.checked === 1 ? 'key' : 'keys'} checked, ${formatCount(report.references.problems.length)} with rows that refer to nothing`,
        ]),
    'Rows inserted or changed since by others were not touched; sequences neither, unless it restarted them',
  ]);
  page.section('Time', [
    ['Found, source opened', formatSeconds(source)],
    ['Rows gathered', formatSeconds(gather)],
    ['Rows put back', formatSeconds(merge)],
    ['Compared', formatSeconds(compare)],
  ]);
  // Rows that are left were listed with their keys.
  const listed = report.tables.flatMap(table => table.left.map(left => describeLeft(table, left)));
  const others = report.problems.filter(problem => !listed.includes(problem));
  page.section(
    'Problems',
    others.map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
  if (report.incident !== null) {
    page.line();
    page.line(
      report.problems.length > 0
        ? `Incident ${report.incident} stays open, as rows are left.`
        : report.others.length > 0
          ? `Incident ${report.incident} stays open, as not all of its tables were asked for.`
          : `Incident ${report.incident} is resolved.`,
    );
  }
}

function rowOf(done: UndoneTable, facts: UndoTableFacts | undefined): string[] {
  return [
    nameOf(done),
    formatCount(facts?.destroyed ?? 0),
    formatCount(done.inserted),
    formatCount(done.setBack),
    formatCount(done.proof.rows),
    formatCount(facts === undefined ? 0 : leftRows(facts)),
    done.proof.equal ? 'equal' : 'DIFFERENT',
  ];
}

function drawLeft(page: Page, report: UndoReport): void {
  page.section(
    'Left as they are',
    report.tables.flatMap(table => table.left.map(left => leftLine(table, left))),
  );
}

function leftLine(table: UndoTableFacts, { rows, reason, keys, message }: LeftRows): string {
  const examples = keys.length === 0 ? '' : `, such as ${keys.map(printable).join(', ')}`;
  const words = message === null ? '' : ` (${printable(message)})`;
  return `${nameOf(table)}: ${formatCount(rows)} ${reason}${words}${examples}`;
}

function leftRows({ left }: UndoTableFacts): number {
  return left.reduce((sum, each) => sum + each.rows, 0);
}

function nameOf({ schema, table }: Pick<UndoTableFacts, 'schema' | 'table'>): string {
  return printable(schema === 'public' ? table : `${schema}.${table}`);
}
