import { counted, formatCount, formatSeconds, formatShare } from '../../base/sizes.ts';
import type { AnalyzedTable, IncidentAnalysis } from '../../operations/incident/analysis.ts';
import { describeDamage } from '../../operations/incident/describe-damage.ts';
import { RATE_RULE } from '../../operations/incident/rate-incident.ts';
import { describeTable } from '../../operations/timeline/table-changes.ts';
import { type Line, type Page, printable, truncate } from './page.ts';
import { formatClock, formatTimeFine } from './time.ts';

const QUERY_WIDTH = 200;
const EVENTS_SHOWN = 40;
const TABLES_SHOWN = 10;

/** The tutorial's report. What nobody knows is not in it, and the last section says so. */
export function drawAnalysis(page: Page, analysis: IncidentAnalysis): void {
  const { style } = page;
  page.line();
  page.line(`Incident: ${printable(analysis.headline)}`);
  if (analysis.at !== null) page.line(`Date: ${formatTimeFine(analysis.at)}`);
  for (const [name, value] of headFacts(analysis)) if (value !== null) page.line(`${name}: ${value}`);
  page.section('Timeline', timelineLines(analysis));
  page.section('Root Cause', causeLines(analysis));
  page.section('Impact', impactLines(analysis));
  page.section(
    'Prevention Measures',
    analysis.measures.map(({ name, isInForce }) =>
      isInForce === null
        ? `- ${printable(name)}: unknown`
        : `${isInForce ? style.good('✓') : style.bad('✗')} ${printable(name)}`,
    ),
  );
  page.section('Recommendations', recommendationLines(page, analysis));
  page.section('Not known', analysis.unknown.map(printable));
}

/** What stands below the heading; null is left out. */
export function headFacts(analysis: IncidentAnalysis): [string, string | null][] {
  const { incidentId, severity, status, resolution, rule, transaction } = analysis;
  const state = resolution === null ? status : `${status}: ${printable(resolution)}`;
  const outcome = transaction.outcome === 'committed' ? '' : `, ${transaction.outcome}`;
  const isOfMany = rule?.name === RATE_RULE;
  return [
    ['On record as', incidentId ?? 'nothing: it was found in the log'],
    ['Severity', severity],
    ['Status', state],
    ['Noticed by', rule && `${printable(rule.name)}: ${printable(rule.explanation)} (${rule.confidence})`],
    ['Transaction', isOfMany ? null : `${transaction.xid} on timeline ${transaction.timeline}${outcome}`],
  ];
}

/** Events whose text begins with a statement, or with the name of a role. */
const beginsWithName: ReadonlySet<string> = new Set(['started', 'identified']);

function timelineLines({ timeline }: IncidentAnalysis): Line[] {
  const shown = timeline.slice(0, EVENTS_SHOWN);
  const lines = shown.map(({ at, event, text, sinceSeconds }, index) => {
    const since = index === 0 ? '' : ` (+${sinceSeconds.toFixed(2)}s)`;
    return `${formatClock(at)}  ${printable(beginsWithName.has(event) ? text : upperFirst(text))}${since}`;
  });
  const more = timeline.length - shown.length;
  return more > 0 ? [...lines, `and ${formatCount(more)} more`] : lines;
}

function upperFirst(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}

function causeLines({ cause, culprit }: IncidentAnalysis): Line[] {
  const query = culprit?.query ?? null;
  return [
    ...cause.map(printable),
    ...(query === null ? [] : [`Statement: ${truncate(printable(query.replace(/\s+/g, ' ')), QUERY_WIDTH)}`]),
  ];
}

/** One line for each table: what was done, and to what part of it. */
export function tableLine(table: AnalyzedTable): string {
  const [text = ''] = describeDamage({ tables: [table] });
  const { share, act } = table;
  const about = act === 'delete' || act === 'update' ? 'about ' : '';
  return share === null ? printable(text) : `${printable(text)} (${about}${formatShare(share)})`;
}

/** What it cost, what it took, what else is gone: names and values; null is left out. */
export function impactFacts({ impact, atMostSeconds }: IncidentAnalysis): [string, string | null][] {
  const { downtime, cost, lost, lostSeconds } = impact;
  const isOn = downtime !== null && downtime.to === null ? ', and it goes on' : '';
  const parts = (downtime?.outages ?? []).map(
    ({ kind, seconds, to }) => `${kind} ${formatSeconds(seconds)}${to === null ? ' so far' : ''}`,
  );
  return [
    ['Took', atMostSeconds === null ? null : `at most ${formatSeconds(atMostSeconds)}`],
    ['Downtime', downtime && `${formatSeconds(downtime.seconds)}${isOn} (${parts.join(', ')})`],
    [
      'Cost of the downtime',
      cost &&
        `${formatMoney(cost.amount, cost.currency)} (${formatMoney(cost.perMinute, cost.currency)} a minute)`,
    ],
    [
      'Lost beside it',
      lost &&
        `${counted(lost.transactions, 'transaction')}${lostSeconds === null ? '' : ` of ${formatSeconds(lostSeconds)}`}, committed by others behind the recovery point`,
    ],
  ];
}

function impactLines(analysis: IncidentAnalysis): Line[] {
  const { tables, lost } = analysis.impact;
  const more = tables.length - TABLES_SHOWN;
  const lostTables = (lost?.tables ?? []).slice(0, TABLES_SHOWN).map(each => {
    const { inserted, updated, deleted } = each;
    const name = describeTable({ ...each, partitionOf: null, estimatedRows: null });
    return `  ${printable(name)}: ${formatCount(inserted)} inserted, ${formatCount(updated)} updated, ${formatCount(deleted)} deleted`;
  });
  return [
    ...tables.slice(0, TABLES_SHOWN).map(tableLine),
    ...(more > 0 ? [`and ${counted(more, 'more table')}`] : []),
    ...impactFacts(analysis),
    ...lostTables,
  ];
}

function recommendationLines(page: Page, { recommendations }: IncidentAnalysis): Line[] {
  return recommendations.flatMap(({ text, command }, index) => [
    `${index + 1}. ${printable(text)}`,
    ...(command === null ? [] : [`   ${page.style.title(command)}`]),
  ]);
}

/** `$1,117`; of a currency that this runtime does not know, its letters. */
export function formatMoney(amount: number, currency: string): string {
  const fractionDigits = amount < 100 ? 2 : 0;
  return new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency,
    minimumFractionDigits: fractionDigits,
    maximumFractionDigits: fractionDigits,
  }).format(amount);
}
