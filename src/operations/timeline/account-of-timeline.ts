import { formatCount } from '../../base/sizes.ts';
import { describeTable } from './table-changes.ts';
import type { TimelineReport } from './timeline-report.ts';

/** What happened in a time, in sentences. */
export function accountOfTimeline(report: TimelineReport): string {
  const { totals, tables, transactions, otherTransactions, usualTransactions } = report;
  const [busiest] = tables;
  const many = transactions.length + otherTransactions;
  const activity = [
    `From ${report.from} to ${report.to}, ${formatCount(totals.commits)} transactions were committed:`,
    `${formatCount(totals.inserted)} rows inserted, ${formatCount(totals.updated)} updated, ${formatCount(totals.deleted)} deleted.`,
    ...(busiest === undefined ? [] : [`Busiest was ${describeTable(busiest)}.`]),
  ].join(' ');
  const standsOut =
    many === 0
      ? 'Nothing stands out.'
      : `${formatCount(many)} transaction${many === 1 ? ' stands' : 's stand'} out. ${transactions
          .slice(0, 5)
          .map(
            ({ xid, time, summary }) => `Transaction ${xid} ${summary}${time === null ? '' : ` at ${time}`}.`,
          )
          .join(' ')}`;
  const rest = [
    ...(usualTransactions === 0
      ? []
      : [`${formatCount(usualTransactions)} large ones are usual for their tables.`]),
    ...(report.log.gaps.length === 0
      ? []
      : [`The log has ${formatCount(report.log.gaps.length)} gaps: what happened there is not known.`]),
    ...report.prepared.map(({ xid }) => `Transaction ${xid} is prepared and has not ended.`),
  ].join(' ');
  return [activity, standsOut, rest].filter(paragraph => paragraph !== '').join('\n\n');
}

const MOST_BUCKETS = 60;

/** The same for a language model. */
export function factsOfTimeline(report: TimelineReport): Readonly<Record<string, unknown>> {
  const every = Math.ceil(report.buckets.length / MOST_BUCKETS);
  return {
    from: report.from,
    to: report.to,
    table: report.table,
    totals: report.totals,
    bucketSeconds: report.bucketSeconds,
    // Of too many, only some: the totals and what stands out are whole.
    buckets: report.buckets.filter((_, index) => index % every === 0),
    tables: report.tables.map(each => ({
      ...{
        table: describeTable(each),
        inserted: each.inserted,
        updated: each.updated,
        deleted: each.deleted,
      },
    })),
    transactionsThatStandOut: report.transactions.map(({ xid, time, summary, kind, atMostSeconds }) => ({
      ...{ number: xid, committedAt: time, did: summary, kind, tookAtMostSeconds: atMostSeconds },
    })),
    othersThatStandOut: report.otherTransactions,
    usualForTheirTable: report.usualTransactions,
    gapsInTheLog: report.log.gaps.length,
    preparedAndNotEnded: report.prepared.length,
    notKnown: report.problems,
  };
}
