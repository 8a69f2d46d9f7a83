import { didYouMean } from '../../base/did-you-mean.ts';
import { isoMoment } from '../../base/moment.ts';
import { formatLsn, parseLsn } from '../../engines/postgres/lsn.ts';
import type { RelationRows, SecondTotals } from '../../engines/postgres/segment-summary.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import { listBackupIds, openManifest } from '../../repository/manifest-reader.ts';
import { fileKey, type RelationNames } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LogActivity } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import { isDamage } from '../verify/verify-problem.ts';
import { type ActivityBucket, fillBuckets } from './activity-buckets.ts';
import { nameParts } from './described-change.ts';
import { droppedDatabases } from './dropped-databases.ts';
import { describeNotable, fitsTable } from './find-described-change.ts';
import { learnNames } from './learn-names.ts';
import { longestSeconds } from './longest-seconds.ts';
import {
  bySeverity,
  type ChangingTransaction,
  inOrder,
  type NotableSelection,
  type NotableTransaction,
  nameTransactions,
  selectNotable,
} from './notable-transactions.ts';
import type { InstanceLog, LogRun } from './open-instance-log.ts';
import { changed, type TableAct, type TableRows, tableRows } from './table-changes.ts';

export interface TimelineRequest {
  /** Microseconds since 1970. Null: a day before `to`, or the beginning of the log. */
  readonly fromUs: bigint | null;
  /** Null: the end of the log. */
  readonly toUs: bigint | null;
  /** As it was written: `users`, `public.users`, `shop.public.users`; null: all tables. */
  readonly table: string | null;
  /** From so many rows on a change stands out. */
  readonly minimumRows: number;
  /** So many transactions and tables are listed. */
  readonly limit: number;
  /** Into so many stretches of time the range is cut at most. */
  readonly mostBuckets: number;
  /** Null: the one that the instance is on. */
  readonly timeline: number | null;
}

/** A transaction that stands out. Times are ISO 8601 with microseconds. */
export interface TimelineTransaction {
  readonly xid: number;
  readonly time: string | null;
  /** What it did that is worst, for people. */
  readonly summary: string;
  readonly kind: NotableTransaction['kind'];
  readonly tables: readonly TableRows[];
  readonly acts: readonly TableAct[];
  readonly firstLsn: string;
  /** Of the record that committed it. */
  readonly commitLsn: string | null;
  /** The name under which it had been prepared. */
  readonly gid: string | null;
  /** It took no longer: what ended last before its first change had ended so long before. Null: the log does not say. */
  readonly atMostSeconds: number | null;
  /** The command that goes back to just before it; null where no backup reaches back so far. */
  readonly restore: string | null;
  /** The command that puts back its rows alone; null where it took none, or no backup reaches back so far. */
  readonly undo: string | null;
}

export interface TimelineReport {
  readonly instance: string;
  readonly timeline: number;
  readonly from: string;
  readonly to: string;
  readonly table: string | null;
  readonly log: {
    readonly from: string;
    readonly to: string;
    readonly segments: number;
    /** Segments that are missing: the first of each hole. */
    readonly gaps: readonly { readonly missing: string; readonly from: string; readonly to: string }[];
    /** Where the log went on under another number. */
    readonly switches: readonly { readonly timeline: number; readonly lsn: string }[];
  };
  readonly bucketSeconds: number;
  readonly buckets: readonly (Omit<ActivityBucket, 'second'> & { readonly time: string })[];
  readonly totals: Omit<ActivityBucket, 'second'>;
  /** Those with the most rows changed first. */
  readonly tables: readonly TableRows[];
  readonly otherTables: number;
  /** In the order of the log; of more than `limit` the worst. */
  readonly transactions: readonly TimelineTransaction[];
  readonly otherTransactions: number;
  /** Large ones that are usual for their table, and are not listed. */
  readonly usualTransactions: number;
  /** Prepared, and neither committed nor rolled back. */
  readonly prepared: readonly {
    readonly xid: number;
    readonly gid: string | null;
    readonly time: string | null;
  }[];
  readonly restorePoints: readonly {
    readonly name: string;
    readonly time: string;
    readonly restore: string;
  }[];
  /** What could not be said. */
  readonly problems: readonly string[];
}

const US = 1_000_000n;

/** What was read of the log. */
export interface ReadRuns {
  readonly runs: readonly LogRun[];
  readonly activities: readonly LogActivity[];
  readonly segments: number;
}

interface Made {
  readonly context: InstanceContext;
  readonly request: TimelineRequest;
  readonly log: InstanceLog;
  readonly read: ReadRuns;
  readonly names: RelationNames;
  readonly fromUs: bigint;
  readonly toUs: bigint;
}

/** Puts together what was read, with names. */
export async function reportOf(made: Made, signal: AbortSignal): Promise<TimelineReport> {
  const { context, request, log, read, names } = made;
  const { view } = log;
  const { activities } = read;
  const isWithin = (us: bigint | null): boolean => us !== null && us >= made.fromUs && us <= made.toUs;
  const seconds = activities
    .flatMap(each => each.seconds)
    .filter(each => isWithin(BigInt(each.second) * US + US - 1n) || isWithin(BigInt(each.second) * US));
  const end = read.runs.at(-1)?.to ?? 0n;
  for (const { transactions } of activities) await learnNames(transactions, names);
  const tables = await tablesOf(seconds, { end, names, table: request.table });
  const range = shownRange(made, seconds);
  const { bucketSeconds, buckets } = fillBuckets(seconds, range, {
    most: request.mostBuckets,
    counts: relation => tables.files.has(fileKey(relation)),
  });
  const changing: ChangingTransaction[] = [];
  for (const activity of activities) {
    changing.push(...(await droppedDatabases(context, { view, activity, names }, signal)));
    changing.push(...(await nameTransactions(activity.transactions, names)));
  }
  const selected = selectFor(
    request,
    changing.filter(each => isWithin(each.transaction.timeUs)),
  );
  const floor = await earliestTarget(context, view, signal);
  const worst = new Set([...selected.notable].sort(bySeverity).slice(0, request.limit));
  return {
    instance: context.instance,
    timeline: view.timeline,
    from: isoMoment(BigInt(range.from) * US),
    to: isoMoment(BigInt(range.to) * US),
    table: request.table,
    log: logFacts(log, read),
    bucketSeconds,
    buckets: buckets.map(({ second, ...counts }) => ({ time: isoMoment(BigInt(second) * US), ...counts })),
    totals: totalsOf(buckets),
    tables: tables.rows.slice(0, request.limit),
    otherTables: Math.max(0, tables.rows.length - request.limit),
    transactions: await Promise.all(
      selected.notable
        .filter(each => worst.has(each))
        .map(async each =>
          listed(each, { floor, atMostSeconds: await longestSeconds(context, view, each, signal) }),
        ),
    ),
    otherTransactions: selected.notable.length - worst.size,
    usualTransactions: selected.usual.length,
    prepared: (activities.at(-1)?.open ?? [])
      .filter(each => each.outcome === 'prepare')
      .map(({ xid, gid, timeUs }) => ({ xid, gid, time: timeUs === null ? null : isoMoment(timeUs) })),
    restorePoints: activities
      .flatMap(each => each.restorePoints)
      .filter(each => isWithin(each.timeUs))
      .map(({ name, timeUs }) => ({
        name,
        time: isoMoment(timeUs),
        restore: restoreCommand('--restore-point', name),
      })),
    problems: [...names.problems, ...unknownTable(request, tables, selected)],
  };
}

function selectFor(request: TimelineRequest, changing: readonly ChangingTransaction[]): NotableSelection {
  const fits = fitsTable(request.table);
  const fitting = inOrder(changing).filter(each => each.tables.some(fits) || each.acts.some(fits));
  return selectNotable(fitting, { minimumRows: request.minimumRows });
}

interface ChangedTables {
  readonly rows: readonly TableRows[];
  /** The files of those tables. */
  readonly files: ReadonlySet<string>;
  /** Names of tables that were not asked for. */
  readonly others: readonly string[];
}

/** The tables of users that were changed, and the files that are theirs. */
async function tablesOf(
  seconds: readonly SecondTotals[],
  options: { readonly end: bigint; readonly names: RelationNames; readonly table: string | null },
): Promise<ChangedTables> {
  const sums = new Map<string, RelationRows>();
  for (const each of seconds.flatMap(({ rows }) => rows)) {
    const known = sums.get(fileKey(each.relation));
    sums.set(fileKey(each.relation), {
      relation: each.relation,
      inserted: each.inserted + (known?.inserted ?? 0),
      updated: each.updated + (known?.updated ?? 0),
      deleted: each.deleted + (known?.deleted ?? 0),
    });
  }
  const fits = fitsTable(options.table);
  const files = new Set<string>();
  const others = new Set<string>();
  for (const [key, sum] of sums) {
    const [own] = await tableRows([sum], options.end, options.names);
    if (own === undefined) continue;
    if (fits(own)) files.add(key);
    else others.add(own.table);
  }
  const counted = [...sums].filter(([key]) => files.has(key)).map(([, sum]) => sum);
  const rows = await tableRows(counted, options.end, options.names);
  return { rows: rows.filter(each => changed(each) > 0), files, others: [...others] };
}

/** A name that fits nothing is more often a slip than a quiet table. */
function unknownTable(
  { table }: TimelineRequest,
  { rows, others }: ChangedTables,
  { notable, usual }: NotableSelection,
): string[] {
  if (table === null || rows.length > 0 || notable.length > 0 || usual.length > 0) return [];
  const near = didYouMean(nameParts(table)[0]?.text ?? '', others);
  const hint = near === null ? '' : `: did you mean '${near}'?`;
  return [`no table that was changed in this time is called '${table}'${hint}`];
}

/** What was asked for, as far as there is log. */
function shownRange(
  { request, fromUs, toUs }: Made,
  seconds: readonly SecondTotals[],
): { readonly from: number; readonly to: number } {
  const from = Number(fromUs / US);
  const to = Number(toUs / US);
  const first = seconds.reduce((least, each) => Math.min(least, each.second), to);
  const last = seconds.reduce((most, each) => Math.max(most, each.second), from);
  return {
    from: request.fromUs === null ? Math.max(from, first) : from,
    to: request.toUs === null ? Math.max(from, Math.min(to, last)) : to,
  };
}

function totalsOf(buckets: readonly ActivityBucket[]): TimelineReport['totals'] {
  const totals = { commits: 0, inserted: 0, updated: 0, deleted: 0 };
  for (const each of buckets) {
    totals.commits += each.commits;
    totals.inserted += each.inserted;
    totals.updated += each.updated;
    totals.deleted += each.deleted;
  }
  return totals;
}

/** One transaction with all that is known of it. */
export async function listTransaction(
  context: InstanceContext,
  view: LogView,
  notable: NotableTransaction,
  signal: AbortSignal,
): Promise<TimelineTransaction> {
  const floor = await earliestTarget(context, view, signal);
  return listed(notable, { floor, atMostSeconds: await longestSeconds(context, view, notable, signal) });
}

function listed(
  notable: NotableTransaction,
  { floor, atMostSeconds }: { readonly floor: bigint | null; readonly atMostSeconds: number | null },
): TimelineTransaction {
  const { transaction, tables, acts, kind } = notable;
  const { xid, timeUs, firstLsn, endLsn, gid } = transaction;
  const isReachable = floor !== null && endLsn !== null && endLsn >= floor;
  return {
    xid,
    time: timeUs === null ? null : isoMoment(timeUs),
    summary: describeNotable(notable),
    kind,
    tables,
    acts,
    firstLsn: formatLsn(firstLsn),
    commitLsn: endLsn === null ? null : formatLsn(endLsn),
    gid,
    atMostSeconds,
    restore: isReachable ? restoreCommand('--xid', String(xid)) : null,
    undo:
      isReachable && tookRows(notable)
        ? shellCommand(['aishell', 'backup', 'undo', '--xid', String(xid)])
        : null,
  };
}

/** A database that was dropped is not made anew by an undo. */
function tookRows({ kind, acts }: NotableTransaction): boolean {
  return kind !== 'insert' && acts.every(({ act }) => act !== 'drop database');
}

function restoreCommand(option: string, value: string): string {
  return shellCommand(['aishell', 'backup', 'restore', option, value]);
}

function logFacts({ view, runs }: InstanceLog, read: ReadRuns): TimelineReport['log'] {
  const from = read.runs[0]?.from ?? runs[0]?.from ?? 0n;
  const to = read.runs.at(-1)?.to ?? runs.at(-1)?.to ?? 0n;
  const gaps = runs.slice(1).flatMap((run, index) => {
    const hole = { from: runs[index]?.to ?? 0n, to: run.from };
    return hole.from >= from && hole.to <= to
      ? [{ missing: view.expectedName(hole.from), from: formatLsn(hole.from), to: formatLsn(hole.to) }]
      : [];
  });
  const switches = view.chain
    .filter(step => step.begin > from && step.begin <= to)
    .map(({ timeline, begin }) => ({ timeline, lsn: formatLsn(begin) }));
  return { from: formatLsn(from), to: formatLsn(to), segments: read.segments, gaps, switches };
}

/** The end of the oldest backup: nothing before it can be gone back to. Null: there is no backup. */
async function earliestTarget(
  { instance, repository }: InstanceContext,
  view: LogView,
  signal: AbortSignal,
): Promise<bigint | null> {
  for (const id of await listBackupIds(repository, instance, { signal })) {
    const manifest = await openManifest(repository, { instance, id }, { signal }).catch((error: unknown) => {
      if (isDamage(error)) return null;
      throw error;
    });
    const backup = manifest?.backup;
    if (backup?.systemIdentifier !== view.owner.systemIdentifier) continue;
    if (view.chain.some(step => step.timeline === backup.timeline)) return parseLsn(backup.stopLsn);
  }
  return null;
}
