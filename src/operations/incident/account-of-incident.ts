import { formatMoment } from '../../base/moment.ts';
import { formatCount, formatSeconds, formatShare } from '../../base/sizes.ts';
import { maskQuery } from '../../engines/postgres/query-text.ts';
import type { IncidentAnalysis } from './analysis.ts';
import { nameOfTable } from './describe-damage.ts';
import { RATE_RULE } from './rate-incident.ts';

/** The report in sentences, from its facts alone. */
export function accountOfIncident(analysis: IncidentAnalysis): string {
  return [whatHappened(analysis), howItWent(analysis), whatItCost(analysis), whatIsOpen(analysis)]
    .filter(paragraph => paragraph !== '')
    .join('\n\n');
}

const verbs = {
  delete: 'deleted',
  update: 'overwrote',
  truncate: 'emptied',
  drop: 'dropped',
  rate: 'changed',
} as const;

function whatHappened({ at, rule, transaction, impact, culprit, cause }: IncidentAnalysis): string {
  const when = at === null ? 'At a time that is not known' : `On ${moment(at)}`;
  const done = impact.tables.slice(0, 3).map(table => {
    const rows = table.rows === null ? '' : `${formatCount(table.rows)} rows of `;
    const share =
      table.rows === null || table.share === null ? '' : `, about ${formatShare(table.share)} of it`;
    return `${verbs[table.act]} ${rows}${nameOfTable(table)}${share}`;
  });
  const more = impact.tables.length > 3 ? `, and ${formatCount(impact.tables.length - 3)} more changes` : '';
  const outcome = {
    committed: '',
    'rolled back': ' It was rolled back, so nothing of it is lost.',
    running: ' It was still running when it was last seen.',
    prepared: ' It is prepared and not committed.',
  }[transaction.outcome];
  const why = cause.filter(text => text.startsWith('The ')).map(text => ` ${text}.`);
  const who = culprit === null ? '' : ` ${cause[0] ?? ''}.`;
  const what = rule?.name === RATE_RULE ? 'many transactions together' : `transaction ${transaction.xid}`;
  return `${when}, ${what} ${done.join('; ') || 'destroyed data'}${more}.${outcome}${who}${why.join('')}`;
}

function howItWent({ timeline, recoveries }: IncidentAnalysis): string {
  const end = timeline.find(each => ['committed', 'rolled back'].includes(each.event)) ?? timeline[0];
  const back = recoveries.findLast(({ mode }) => mode === 'in-place');
  const told = [
    [timeline.find(({ event }) => event === 'detected'), 'it was noticed'],
    [timeline.find(({ event }) => event === 'alerted'), 'people were told'],
    [timeline.find(({ event }) => event === 'writes stopped'), 'writes were stopped'],
    [timeline.find(({ event }) => event === 'undone'), 'its rows were put back'],
    [
      timeline.findLast(({ event }) => event === 'online'),
      `the database was back at just before it (${back?.way ?? 'restore'}) and online`,
    ],
    [timeline.findLast(({ event }) => event === 'writes resumed'), 'writes were possible again'],
  ] as const;
  const steps = told
    .flatMap(([found, text]) => (found === undefined ? [] : [{ at: found.sinceSeconds, text }]))
    .sort((a, b) => a.at - b.at)
    .map(({ at, text }) => `${text} after ${formatSeconds(Math.max(0, at - (end?.sinceSeconds ?? 0)))}`);
  return steps.length === 0 ? '' : `Counted from its end, ${steps.join(', ')}.`;
}

function whatItCost({ impact }: IncidentAnalysis): string {
  const { downtime, cost, lost, lostSeconds } = impact;
  const sentences: string[] = [];
  if (downtime !== null) {
    const money =
      cost === null
        ? ''
        : `, which is ${cost.amount.toFixed(2)} ${cost.currency} by the configured cost of a minute`;
    sentences.push(
      `For ${formatSeconds(downtime.seconds)}${downtime.to === null ? ' so far' : ''} it could not be used as usual${money}.`,
    );
  }
  if (lost !== null && lost.transactions > 0) {
    const span = lostSeconds === null ? '' : ` in ${formatSeconds(lostSeconds)}`;
    sentences.push(
      `With the recovery ${formatCount(lost.transactions)} other transaction${lost.transactions === 1 ? '' : 's'} committed${span} behind that point left the database; \`aishell backup lost\` exports their rows.`,
    );
  } else if (lost !== null) sentences.push('Nothing else was lost with the recovery.');
  return sentences.join(' ');
}

function whatIsOpen({ unknown, recommendations }: IncidentAnalysis): string {
  const [first] = recommendations;
  return [
    ...(unknown.length === 0 ? [] : [`Not known: ${unknown.join('; ')}.`]),
    ...(first === undefined
      ? []
      : [`Next: ${first.text}${first.command === null ? '' : ` (${first.command})`}.`]),
  ].join(' ');
}

function moment(iso: string): string {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? iso : formatMoment(BigInt(ms) * 1000n);
}

const MOST_EVENTS = 100;

/** The same facts for a language model: statements without their values, nothing of this machine. */
export function factsOfIncident(analysis: IncidentAnalysis): Readonly<Record<string, unknown>> {
  const { culprit } = analysis;
  return {
    headline: analysis.headline,
    at: analysis.at,
    severity: analysis.severity,
    status: analysis.status,
    resolution: analysis.resolution,
    noticedBy: analysis.rule && { rule: analysis.rule.name, confidence: analysis.rule.confidence },
    transaction: {
      number: analysis.transaction.xid,
      outcome: analysis.transaction.outcome,
      tookAtMostSeconds: analysis.atMostSeconds,
    },
    timeline: analysis.timeline.slice(0, MOST_EVENTS).map(({ at, event, sinceSeconds }) => ({
      ...{ at, event, secondsSinceTheBeginning: sinceSeconds },
    })),
    culprit: culprit && {
      role: culprit.role,
      application: culprit.application,
      database: culprit.database,
      cameOverTheNetwork: culprit.client !== null,
      statement: culprit.query === null ? null : maskQuery(culprit.query),
    },
    causes: analysis.cause.slice(1),
    impact: {
      tables: analysis.impact.tables.map(({ act, rows, rowsBefore, share, ...table }) => ({
        ...{ table: nameOfTable({ act, rows, rowsBefore, ...table }), act, rows, rowsBefore, share },
      })),
      downtime: analysis.impact.downtime,
      cost: analysis.impact.cost,
      lostBesideIt: analysis.impact.lost,
      lostSeconds: analysis.impact.lostSeconds,
    },
    recoveries: analysis.recoveries.map(({ startedAt, onlineAt, finishedAt, mode, way }) => ({
      ...{ startedAt, onlineAt, finishedAt, mode, way },
    })),
    measures: analysis.measures.map(({ name, isInForce }) => ({ name, isInForce })),
    recommendations: analysis.recommendations.map(({ text }) => text),
    notKnown: analysis.unknown,
  };
}
