import { AppError } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import { FIRST_USER_FILE } from '../../engines/postgres/catalog-snapshot.ts';
import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import { RecordHeaders, relationOf } from '../../engines/postgres/wal-blocks.ts';
import { createWalReader } from '../../engines/postgres/wal-reader.ts';
import { RMGR_HEAP, RMGR_HEAP2, type WalRecord } from '../../engines/postgres/wal-record.ts';
import { type RowChange, readRowChange } from '../../engines/postgres/wal-row-changes.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey, nameRelations, type RelationNames } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogSource, logTransactions } from '../log/log-transactions.ts';
import type { LogView } from '../log/log-view.ts';
import { type LostRow, type LostTransaction, MOST_ROWS, RowHistory } from './lost-rows.ts';
import { readRewrites } from './rewritten-tables.ts';

export interface LostWindow {
  /** Everything that was committed here or later is lost. */
  readonly from: bigint;
  /** Up to here. */
  readonly to: bigint;
  /** Where the log that is read may begin. */
  readonly begin: bigint;
  /** The transactions of the disaster: what they did is not to be done again. */
  readonly excluded: ReadonlySet<number>;
}

export interface LostRows {
  /** In the order of their commits. */
  readonly transactions: readonly LostTransaction[];
  readonly rows: readonly LostRow[];
  /** The commits of the disaster that lie in the window. */
  readonly disasters: readonly LostTransaction[];
  /** Transactions that may have begun before the log that was read. */
  readonly maybeCut: readonly number[];
  /** For people: which tables got new files with the same rows, and by which transactions. */
  readonly rewritten: readonly string[];
}

/** A transaction that was running at the target may have begun before: so far back its rows are looked for. */
const SEGMENTS_BEFORE = 64;

/** Which rows the transactions of a window changed, and where they lie. @throws LOG_NOT_FOUND CORRUPT UNSUPPORTED */
export async function readLostRows(
  context: Pick<InstanceContext, 'repository'>,
  view: LogView,
  window: LostWindow,
  signal: AbortSignal,
): Promise<LostRows> {
  const found = await readCommits({ ...context, view }, window, signal);
  const names = await nameRelations(context, view, { signal });
  const history = new RowHistory();
  const cut = new Set<number>();
  const back = BigInt(SEGMENTS_BEFORE * view.segmentSize);
  const far = window.from > back ? window.from - back : 0n;
  const origin = segmentStart(far > window.begin ? far : window.begin, view.segmentSize);
  const isTable = tableTest(names);
  const rewrites = await readRewrites(context, view, { from: origin, to: window.to, names }, signal);
  for await (const { lsn, changes } of changesIn(
    view,
    { from: origin, to: window.to },
    found.owners,
    signal,
  )) {
    for (const { relation, change, owner } of changes) {
      if (lsn === origin && owner !== 'disaster') cut.add(owner);
      if (!(await isTable(relation, lsn))) continue;
      const key = fileKey(relation);
      const isCopy = owner !== 'disaster' && rewrites.files.get(found.transactions[owner]!.lsn)?.has(key);
      const by = isCopy === true && change.removed === null ? 'rewrite' : owner;
      if (!history.apply({ key, file: relation }, change, by)) throw tooMany();
    }
  }
  const { transactions, disasters } = found;
  const maybeCut = origin <= window.begin ? [] : [...cut].map(index => transactions[index]!.xid);
  const lsns = new Set(transactions.map(each => each.lsn));
  const rewritten = rewrites.tables.filter(({ lsn }) => lsns.has(lsn)).map(({ text }) => text);
  return { transactions, disasters, rows: history.rows, maybeCut, rewritten };
}

interface Commits {
  readonly transactions: readonly LostTransaction[];
  readonly disasters: readonly LostTransaction[];
  /** By number, subtransactions included. */
  readonly owners: ReadonlyMap<number, number | 'disaster'>;
}

async function readCommits(source: LogSource, window: LostWindow, signal: AbortSignal): Promise<Commits> {
  const { view } = source;
  const range = { from: window.from, to: view.firstMissing(window.from) };
  const log = logTransactions(source, range, signal);
  const transactions: LostTransaction[] = [];
  const disasters: LostTransaction[] = [];
  const owners = new Map<number, number | 'disaster'>();
  for (let at = log.first; at < window.to && at < log.to; at = nextSegment(at, view.segmentSize)) {
    for (const each of await log.inSegment(at)) {
      if (each.kind !== 'commit' && each.kind !== 'commit prepared') continue;
      if (each.lsn < window.from || each.lsn >= window.to) continue;
      const isDisaster = window.excluded.has(each.xid);
      const owner = isDisaster ? 'disaster' : transactions.length;
      (isDisaster ? disasters : transactions).push({ xid: each.xid, timeUs: each.timeUs, lsn: each.lsn });
      for (const xid of [each.xid, ...each.subxids]) owners.set(xid, owner);
    }
  }
  return { transactions, disasters, owners };
}

interface OwnedChange {
  readonly relation: RelationFile;
  readonly change: RowChange;
  readonly owner: number | 'disaster';
}

/** The changes of rows that are somebody's, a segment at a time. */
async function* changesIn(
  view: LogView,
  range: { readonly from: bigint; readonly to: bigint },
  owners: Commits['owners'],
  signal: AbortSignal,
): AsyncGenerator<{ readonly lsn: bigint; readonly changes: readonly OwnedChange[] }, void, undefined> {
  const headers = new RecordHeaders();
  let changes: OwnedChange[] = [];
  const onRecord = (record: WalRecord): void => {
    if ((record.rmgr !== RMGR_HEAP && record.rmgr !== RMGR_HEAP2) || record.lsn >= range.to) return;
    const owner = owners.get(record.xid);
    if (owner === undefined) return;
    headers.read(record);
    const change = readRowChange(record, headers);
    if (change === null) return;
    const relation = relationOf(headers, 0);
    if (relation.file >= FIRST_USER_FILE) changes.push({ relation, change, owner });
  };
  const { systemIdentifier } = view.owner;
  const { segmentSize } = view;
  const reader = createWalReader({ segmentSize, startLsn: range.from, systemIdentifier, onRecord });
  for (let lsn = range.from; lsn < range.to && reader.end === null; lsn = nextSegment(lsn, segmentSize)) {
    signal.throwIfAborted();
    changes = [];
    reader.push(await view.read(lsn));
    yield { lsn, changes };
  }
}

/** Whether a file may be that of a table: TOAST relations and catalogs have rows, too. */
function tableTest(names: RelationNames): (relation: RelationFile, lsn: bigint) => Promise<boolean> {
  const known = new Map<string, boolean>();
  return async (relation, lsn) => {
    const key = fileKey(relation);
    const before = known.get(key);
    if (before !== undefined) return before;
    const { kind } = await names.nameOf(relation, lsn);
    // The server that has the rows says what an unknown one is.
    const isTable = kind === 'table' || kind === 'unknown';
    known.set(key, isTable);
    return isTable;
  };
}

function tooMany(): AppError {
  return new AppError(
    'UNSUPPORTED',
    `unable to export what is lost: more than ${formatCount(MOST_ROWS)} rows were changed`,
    {
      hint: 'Narrow it with --to, or bring everything back beside the instance: `aishell backup restore --latest --target DIR`.',
    },
  );
}
