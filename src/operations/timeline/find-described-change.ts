import { didYouMean } from '../../base/did-you-mean.ts';
import { AppError } from '../../base/errors.ts';
import { formatMoment } from '../../base/moment.ts';
import { formatCount } from '../../base/sizes.ts';
import type { RelationRows, TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import { fileKey, nameRelations, type RelationNames } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogSpan, readActivity } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import type { FoundCommit } from '../restore/resolve-target.ts';
import { type ChangeKind, type DescribedChange, nameParts } from './described-change.ts';
import { droppedDatabases } from './dropped-databases.ts';
import { learnNames } from './learn-names.ts';
import {
  type ChangingTransaction,
  inOrder,
  listLarge,
  type NotableTransaction,
  nameTransactions,
  selectNotable,
} from './notable-transactions.ts';
import { describeTable, type TableAct, type TableLabel, type TableRows, tableRows } from './table-changes.ts';

/** From so many rows on a change is large. */
export const LARGE_ROWS = 1000;
/** Smaller ones are only looked at where they are all there is. */
const SEEN_ROWS = 100;
const MOST_SMALL = 100_000;
const MOST_LISTED = 10;

/**
 * Finds the one transaction in a range of the log that a description fits. Large changes go before small ones: `the delete
 * on users` means the one that deleted thousands, not those that the application does all day.
 *
 * @throws LOG_NOT_FOUND when there is none; TARGET_AMBIGUOUS when there are several, with the command for each
 */
export async function findDescribedChange(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  search: LogSpan & {
    readonly view: LogView;
    readonly change: DescribedChange;
    /** What means one of several transactions alone; a restore to it unless given. */
    readonly command?: (xid: number) => string;
  },
  signal: AbortSignal,
): Promise<FoundCommit> {
  const { view, change } = search;
  const names = await nameRelations(context, view, { signal });
  const activity = await readActivity(context, view, search, { signal, minimumRows: SEEN_ROWS });
  await learnNames(activity.transactions, names);
  const changing = inOrder([
    ...(await droppedDatabases(context, { view, activity, names }, signal)),
    ...(await nameTransactions(activity.transactions, names)),
  ]);
  const fitting = fittingOf(changing, change);
  const selected = selectNotable(fitting, { minimumRows: LARGE_ROWS });
  let candidates = selected.notable;
  if (candidates.length === 0) candidates = selected.usual;
  const wantsAll = change.which !== 'only' && !change.large;
  const countsRows = change.change !== 'drop' && change.change !== 'truncate';
  if (countsRows && !change.large && (candidates.length === 0 || wantsAll))
    candidates = await findSmall(context, { ...search, names, rows: activity.rows }, signal);
  const chosen = change.which === 'first' ? candidates[0] : candidates.at(-1);
  if (chosen === undefined) {
    const tables = await tableRows(activity.rows, activity.to, names);
    const acted = changing.flatMap(each => each.acts);
    throw notFound(change, { tables, acted });
  }
  if (change.which === 'only' && candidates.length > 1) throw ambiguous(change, candidates, search.command);
  const { endLsn, recordEndLsn } = chosen.transaction;
  if (endLsn === null || recordEndLsn === null) throw notFound(change, { tables: [], acted: [] });
  return {
    kind: 'commit',
    lsn: endLsn,
    endLsn: recordEndLsn,
    after: change.after,
    found: describeNotable(chosen),
  };
}

/** Every change of that kind to that table, whatever its size; of too many, those that are first or last. */
async function findSmall(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  search: LogSpan & {
    readonly view: LogView;
    readonly change: DescribedChange;
    readonly names: RelationNames;
    /** What was changed in the whole of the log that is searched. */
    readonly rows: readonly RelationRows[];
  },
  signal: AbortSignal,
): Promise<readonly NotableTransaction[]> {
  const { view, change, names } = search;
  const column = columnOf(change.change);
  const likely = await likelyFiles(search);
  const found: TransactionSummary[] = [];
  let others = 0;
  const keep = (transaction: TransactionSummary): boolean => {
    const rows = transaction.rows.filter(each => each[column] > 0);
    if (transaction.outcome !== 'commit' || rows.length === 0) return false;
    if (!rows.some(({ relation }) => likely.has(fileKey(relation)))) {
      others += 1;
      return others <= MOST_SMALL;
    }
    if (change.which !== 'first' || found.length < MOST_SMALL) found.push(transaction);
    if (found.length >= 2 * MOST_SMALL) found.splice(0, MOST_SMALL);
    return false;
  };
  const activity = await readActivity(context, view, search, { signal, minimumRows: 1, keep });
  const changing = inOrder(await nameTransactions([...activity.transactions, ...found], names));
  return listLarge(fittingOf(changing, change), { minimumRows: 1 });
}

/** The files of tables that a description fits, by their names at both ends of the log. */
async function likelyFiles(
  search: LogSpan & {
    readonly change: DescribedChange;
    readonly names: RelationNames;
    readonly rows: readonly RelationRows[];
  },
): Promise<ReadonlySet<string>> {
  const fits = fitsTable(search.change.table);
  const files = new Set<string>();
  for (const each of search.rows) {
    for (const lsn of [search.from, search.to])
      if ((await tableRows([each], lsn, search.names)).some(fits)) files.add(fileKey(each.relation));
  }
  return files;
}

/** Only what fits of those that fit. */
function fittingOf(
  changing: readonly ChangingTransaction[],
  change: DescribedChange,
): readonly ChangingTransaction[] {
  const fits = fitsTable(change.table);
  const acts = (act: TableAct['act']): boolean =>
    act === change.change || (act === 'drop database' && change.change === 'drop');
  return changing
    .map(each => ({
      ...each,
      acts: each.acts.filter(one => acts(one.act) && fits(one)),
      tables: each.tables.filter(fits).flatMap(one => narrowed(one, change.change) ?? []),
    }))
    .filter(each => each.acts.length > 0 || each.tables.length > 0);
}

function narrowed(table: TableRows, kind: ChangeKind): TableRows | null {
  if (kind === 'drop' || kind === 'truncate') return null;
  const column = columnOf(kind);
  const none = { inserted: 0, updated: 0, deleted: 0 };
  return table[column] === 0 ? null : { ...table, ...none, [column]: table[column] };
}

function columnOf(kind: ChangeKind): 'inserted' | 'updated' | 'deleted' {
  return kind === 'insert' ? 'inserted' : kind === 'update' ? 'updated' : 'deleted';
}

/** Compares a name as it was written with a table's, or with that of the partitioned table above it. */
export function fitsTable(written: string | null): (table: TableLabel) => boolean {
  if (written === null) return () => true;
  const [table, schema, database] = nameParts(written);
  const same = (part: typeof table, name: string | null): boolean =>
    part === undefined ||
    (part.quoted ? part.text === name : part.text.toLowerCase() === (name ?? '').toLowerCase());
  return label => {
    const top = label.partitionOf;
    const own = same(table, label.table) && same(schema, label.schema);
    const above = top !== null && same(table, top.name) && same(schema, top.schema);
    return (own || above) && same(database, label.database);
  };
}

/** `deleted 3,214,567 rows of shop: public.users`. */
export function describeNotable({ kind, subject, rows, share }: NotableTransaction): string {
  const table = describeTable(subject);
  if (kind === 'drop')
    return `dropped ${'act' in subject && subject.act === 'drop database' ? 'database ' : ''}${table}`;
  if (kind === 'truncate') return `truncated ${table}`;
  const verb = kind === 'insert' ? 'inserted' : kind === 'update' ? 'updated' : 'deleted';
  const part = share !== null && share >= 0.01 ? ` (about ${Math.round(share * 100)} %)` : '';
  return `${verb} ${formatCount(rows)} row${rows === 1 ? '' : 's'} ${kind === 'insert' ? 'into' : 'of'} ${table}${part}`;
}

function ambiguous(
  change: DescribedChange,
  candidates: readonly NotableTransaction[],
  commandOf = (xid: number): string => `aishell backup restore --xid ${xid}${change.after ? ' --after' : ''}`,
): AppError {
  const listed = candidates.slice(-MOST_LISTED);
  const command = ({ transaction }: NotableTransaction): string => commandOf(transaction.xid);
  const lines = listed.map(each => {
    const { timeUs } = each.transaction;
    return `    ${command(each)}  # ${timeUs === null ? '' : `${formatMoment(timeUs)}, `}${describeNotable(each)}`;
  });
  const more = candidates.length - listed.length;
  return new AppError(
    'TARGET_AMBIGUOUS',
    `'${change.text}' fits ${formatCount(candidates.length)} transactions`,
    {
      hint: `Choose one${more > 0 ? ` (the last ${listed.length} of them)` : ''}, or say 'the last' or 'the first':\n${lines.join('\n')}`,
      details: {
        candidates: listed.map(each => ({
          xid: each.transaction.xid,
          time: each.transaction.timeUs === null ? null : formatMoment(each.transaction.timeUs),
          change: describeNotable(each),
          restore: command(each),
        })),
      },
    },
  );
}

function notFound(
  change: DescribedChange,
  known: { readonly tables: readonly TableRows[]; readonly acted: readonly TableAct[] },
): AppError {
  const { table } = change;
  const large = change.large ? `${change.change} of ${formatCount(LARGE_ROWS)} rows or more` : change.change;
  const counts = change.change === 'drop' || change.change === 'truncate';
  const labels: readonly TableLabel[] = counts
    ? known.acted.filter(each => each.act.startsWith(change.change))
    : known.tables.filter(each => each[columnOf(change.change)] > 0);
  const near =
    table === null
      ? null
      : didYouMean(
          nameParts(table)[0]?.text ?? '',
          labels.map(each => each.table),
        );
  const listed = [...new Set(labels.map(describeTable))].slice(0, MOST_LISTED).join(', ');
  return new AppError(
    'LOG_NOT_FOUND',
    `there is no ${large}${table === null ? '' : ` on '${table}'`} in the archived log after the first usable backup`,
    {
      hint:
        near !== null
          ? `Did you mean '${near}'?`
          : listed === ''
            ? `The log holds no ${change.change} at all. See: aishell backup timeline`
            : `There is one on: ${listed}. See: aishell backup timeline`,
    },
  );
}
