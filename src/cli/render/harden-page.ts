import { counted, formatCount } from '../../base/sizes.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { HardenReport } from '../../operations/harden/harden.ts';
import type { MeasureStatus } from '../../operations/harden/measures.ts';
import type { Hardening } from '../../operations/harden/read-hardening.ts';
import { type Page, printable, RULE } from './page.ts';
import { formatTime } from './time.ts';
import { wrapWords } from './wrap.ts';

/** Of what is for people in the script, so that it fits into any terminal: its lines are not broken there. */
const WIDTH = 80;
/** Of a list of tables or roles; the rest is counted. */
const SHOWN = 10;

/** Everything as SQL: what is for people stands in comments, so that all of it can be given to psql. */
export function drawHardenScript(page: Page, report: HardenReport): void {
  const { style } = page;
  const comment = (text = ''): void => page.verbatim(style.dim(text === '' ? '--' : `-- ${text}`));
  const paragraph = (text: string, indent: string): void => {
    for (const line of wrapWords(printable(text), WIDTH - indent.length - 3)) comment(`${indent}${line}`);
  };
  const does = report.action === 'apply' ? 'Measures against accidents' : 'Taking measures back';
  page.verbatim(
    style.title(
      `-- 🛡️  ${does}: database ${printable(report.database)} of '${report.instance}' (PostgreSQL ${printable(report.serverVersion)})`,
    ),
  );
  comment(RULE);
  for (const note of report.notes) comment(`⚠️  ${printable(note)}`);
  for (const [index, measure] of report.measures.entries()) {
    comment();
    page.verbatim(style.title(`-- [${index + 1}] ${measure.name}: ${measure.title}`));
    comment(`    Now: ${stateText(measure)}`);
    if (report.action === 'revert') continue;
    if (measure.choices !== null) paragraph(`With: ${measure.choices}`, '    ');
    paragraph(`Prevents: ${measure.prevents}`, '    ');
    paragraph(`Costs: ${measure.costs}`, '    ');
    for (const limit of measure.limits) paragraph(`Mind: ${limit}`, '    ');
    comment(`    Taken back by: ${hardenCommand(report, '--revert', '--measure', measure.name)}`);
    for (const note of measure.notes) paragraph(`Note: ${note}`, '    ');
    // Of what is off, everything is missing.
    const missing = measure.state === 'partly' ? shortened(measure.missing) : [];
    for (const line of missing) paragraph(`Missing: ${line}`, '    ');
  }
  for (const problem of report.problems) comment(`⚠️  ${printable(problem)}`);
  comment();
  let title = '';
  for (const unit of report.units) {
    const heading = unit.table === null ? unit.title : 'Tables, each in a transaction of its own';
    if (heading !== title) comment(`${heading}:`);
    title = heading;
    for (const line of unit.sql.split('\n')) page.verbatim(printable(line));
    page.line();
  }
  const steered = report.units.some(({ sql }) => sql.split('\n').some(line => printable(line) !== line));
  if (steered)
    paragraph('⚠️  Names hold characters that could steer a terminal, shown as �: psql cannot run these.', '');
  if (report.units.length === 0) comment('There is nothing to do.');
  if (report.action === 'apply') {
    comment('Recommendations that are for people to follow:');
    for (const { text, sql } of report.recommendations) {
      paragraph(`- ${text}`, '  ');
      if (sql !== null) comment(`    ${printable(sql)}`);
    }
    comment();
  }
  const how = report.action === 'apply' ? 'with --apply-recommendations' : 'without --dry-run';
  comment(
    report.units.length === 0
      ? 'Nothing was changed.'
      : `Nothing was changed. To do it: the same command ${how}`,
  );
}

/** What is going to be changed, before the question. */
export function drawHardenPlan(page: Page, plan: HardenReport): void {
  const apply = plan.action === 'apply';
  page.title(apply ? '🛡️  Protecting against accidents' : '🛡️  Taking protection back');
  page.line(
    `Database: ${printable(plan.database)} of '${plan.instance}' (PostgreSQL ${printable(plan.serverVersion)})`,
  );
  const concerned = new Set(plan.units.flatMap(({ measures }) => measures));
  page.section(
    apply ? 'Will be applied' : 'Will be taken back',
    plan.measures
      .filter(({ name }) => concerned.has(name))
      .flatMap(({ name, title, state, choices }) => [
        `${name}: ${title} (now: ${state})`,
        ...(choices === null || !apply ? [] : [`  ${choices}`]),
      ]),
  );
  const tables = plan.units.filter(({ table }) => table !== null).length;
  page.section('Locks', [
    tables === 0
      ? 'No table is locked.'
      : `${counted(tables, 'table')}, one after the other, each for a moment; one that is in use is passed over`,
  ]);
  if (apply) drawNotes(page, plan.measures, plan.notes);
  drawProblems(page, plan.problems);
  page.line();
  page.line('The SQL, word for word: the same command with --dry-run');
  page.line();
}

/** After it was done. */
export function drawHardened(page: Page, report: HardenReport): void {
  const apply = report.action === 'apply';
  page.line();
  if (report.units.length === 0) page.line('There is nothing to do: everything is as it should be.');
  else if (report.problems.length > 0) page.line(page.style.warn('⚠️  Done, with problems'));
  else page.line(outcomeLine(page, report));
  drawMeasures(page, report.measures);
  if (apply) {
    page.section(
      'Recommendations, for people to follow',
      report.recommendations.map(({ text }) => `- ${printable(text)}`),
    );
  }
  drawProblems(page, report.problems);
  if (apply && report.units.length > 0) {
    page.line();
    page.line(`To take it back: ${page.style.title(hardenCommand(report, '--revert'))}`);
  }
}

function outcomeLine(page: Page, { action, database, measures }: HardenReport): string {
  const name = `'${printable(database)}'`;
  if (action === 'revert')
    return page.style.good(`✅ Taken back in ${name}: ${measures.map(measure => measure.name).join(', ')}`);
  const inForce = measures.filter(({ state }) => state === 'in force').length;
  return inForce === measures.length
    ? page.style.good(`✅ The database ${name} is protected`)
    : page.style.warn(
        `⚠️  Applied as far as this user may: ${inForce} of ${counted(measures.length, 'measure')} are in force`,
      );
}

export function drawHardening(page: Page, hardening: Hardening): void {
  page.line(
    `Database: ${printable(hardening.database)} of '${hardening.instance}' (PostgreSQL ${printable(hardening.serverVersion)}), ${counted(hardening.tables, 'table')}`,
  );
  drawMeasures(page, hardening.measures);
  if (hardening.otherDatabases.length > 0) {
    page.section('Other databases, each with measures of its own', [
      shortened(hardening.otherDatabases.map(printable)).join(', '),
    ]);
  }
  page.line();
  if (hardening.problems.length > 0)
    page.line(
      `To complete what is not whole: ${page.style.title(hardenCommand(hardening, '--apply-recommendations'))}`,
    );
  else page.line(`What is there to do: ${page.style.title(hardenCommand(hardening))}`);
}

function drawMeasures(page: Page, measures: readonly MeasureStatus[]): void {
  const { style } = page;
  const width = Math.max(...measures.map(({ name }) => name.length));
  page.section(
    'Measures',
    measures.flatMap(measure => {
      const mark = { 'in force': style.good('✓'), partly: style.warn('!'), off: '-', 'not possible': '-' }[
        measure.state
      ];
      const notes = measure.notes.filter(note => note !== measure.blocked);
      const more = [...notes, ...(measure.since === null ? [] : shortened(measure.missing))];
      const indent = ' '.repeat(width + 4);
      return [
        `${mark} ${measure.name.padEnd(width)}  ${stateText(measure)}`,
        ...more
          .flatMap(text => wrapWords(printable(text), WIDTH - indent.length - 2))
          .map(text => style.dim(`${indent}${text}`)),
      ];
    }),
  );
}

/** For the same database: without its name it would be about that of the connection. */
function hardenCommand({ database }: { readonly database: string }, ...more: readonly string[]): string {
  return printable(shellCommand(['aishell', 'security', 'harden', '--database', database, ...more]));
}

function stateText({ state, since, by, blocked }: MeasureStatus): string {
  if (since !== null) return `${state}, since ${formatTime(since)}, by ${printable(by ?? '-')}`;
  return state === 'not possible' && blocked !== null ? `not possible: ${printable(blocked)}` : state;
}

function drawNotes(page: Page, measures: readonly MeasureStatus[], notes: readonly string[]): void {
  page.section('Mind', [
    ...notes.map(printable),
    ...measures.flatMap(({ name, notes: own, blocked }) =>
      shortened([...new Set([...own, ...(blocked === null ? [] : [blocked])])]).map(
        note => `${name}: ${printable(note)}`,
      ),
    ),
  ]);
}

function drawProblems(page: Page, problems: readonly string[]): void {
  page.section(
    'Problems',
    shortened(problems).map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
}

function shortened(texts: readonly string[]): string[] {
  const more = texts.length - SHOWN;
  return more > 1 ? [...texts.slice(0, SHOWN), `and ${formatCount(more)} more`] : [...texts];
}
