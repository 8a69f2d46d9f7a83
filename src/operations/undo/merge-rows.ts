import { delay } from '../../base/abort.ts';
import { AppError } from '../../base/errors.ts';
import { changeRows, queryRows, type Session } from '../../engines/postgres/connection.ts';
import {
  insertKeylessSql,
  insertSql,
  type RowRange,
  setBackSql,
} from '../../engines/postgres/undo-statements.ts';
import type { WeighedTable } from './weigh-rows.ts';

export interface MergedRows {
  readonly inserted: number;
  readonly setBack: number;
  /** Rows that the table refused, with the server's words. */
  readonly refused: readonly { readonly rows: number; readonly message: string }[];
}

export interface MergeOptions {
  readonly xids: readonly number[];
  readonly batchRows: number;
  readonly signal: AbortSignal;
  readonly onRows: (rows: number) => void;
}

/** So often a batch is tried that meets locks; with growing pauses, for about a minute. */
const ATTEMPTS = 12;
const PAUSE_MS = 250;
/** Line pointers of a page; one more than there can be. */
const OFFSETS = 2048;

/**
 * Puts the gathered rows of one table back, batch by batch, each a transaction of its own that waits for no lock for long. It may
 * be begun again at any time: what is back already is left as it is.
 */
export async function mergeRows(
  live: Session,
  weighed: WeighedTable,
  options: MergeOptions,
): Promise<MergedRows> {
  const { table, rows, pages } = weighed.staged;
  const total = { inserted: 0, setBack: 0, refused: new Map<string, number>() };
  if (table.key === null) {
    // All at once, so that a run that comes after one that was cut off finds all of them or none.
    total.inserted = await inTransaction(live, options, async () =>
      changeRows(live, 'put rows back', {
        text: insertKeylessSql(table),
        values: [options.xids],
        signal: options.signal,
      }),
    );
    options.onRows(total.inserted);
    return { inserted: total.inserted, setBack: 0, refused: [] };
  }
  const step = Math.max(1, Math.round((options.batchRows * pages) / Math.max(1, rows)));
  let before = -1;
  do {
    // Where foreign keys count, a row may have been refused because another one of its table comes later.
    const plain = before < 0 && isPlain(weighed);
    before = total.inserted;
    total.refused.clear();
    for (let page = 0; page < pages; page += step) {
      const range = { from: { page, offset: 0 }, to: { page: Math.min(pages, page + step), offset: 0 } };
      await mergeRange(live, weighed, { ...options, range, total, plain });
    }
  } while (total.refused.size > 0 && total.inserted > before);
  return {
    inserted: total.inserted,
    setBack: total.setBack,
    refused: [...total.refused].map(([message, count]) => ({ message, rows: count })),
  };
}

/** Whether none of the rows to insert was there when it was looked at last. */
function isPlain({ counts, insertFates }: WeighedTable): boolean {
  return counts.every(({ fate, state }) => state === 'absent' || !insertFates.includes(fate));
}

interface RangeOptions extends MergeOptions {
  readonly range: RowRange;
  readonly plain: boolean;
  readonly total: { inserted: number; setBack: number; readonly refused: Map<string, number> };
}

/** One batch; where the table refuses a row of it, smaller ones, down to that row. */
async function mergeRange(live: Session, weighed: WeighedTable, options: RangeOptions): Promise<void> {
  const { range, total } = options;
  try {
    const done = await inTransaction(live, options, () => putBack(live, weighed, options));
    total.inserted += done.inserted;
    total.setBack += done.setBack;
    options.onRows(done.inserted + done.setBack);
  } catch (error) {
    if (!(error instanceof AppError) || !isRefusal(error)) throw error;
    // Somebody has inserted one of them meanwhile.
    if (options.plain) return await mergeRange(live, weighed, { ...options, plain: false });
    const halves = halvesOf(range);
    if (halves === null) {
      const message = error.message.replace('unable to put rows back: ', '');
      total.refused.set(message, (total.refused.get(message) ?? 0) + 1);
      return;
    }
    for (const half of halves) await mergeRange(live, weighed, { ...options, range: half });
  }
}

async function putBack(
  live: Session,
  weighed: WeighedTable,
  { range, xids, signal, plain }: RangeOptions,
): Promise<{ readonly inserted: number; readonly setBack: number }> {
  const { staged, facts } = weighed;
  const doing = 'put rows back';
  const inserted =
    facts.toInsert === 0
      ? 0
      : await changeRows(live, doing, {
          text: insertSql(staged.table, range, { fates: weighed.insertFates, plain }),
          signal,
        });
  const text = facts.toSetBack === 0 ? null : setBackSql(staged.table, range, weighed.setBackFates);
  const setBack = text === null ? 0 : await changeRows(live, doing, { text, values: [xids], signal });
  return { inserted, setBack };
}

async function inTransaction<T>(
  live: Session,
  { signal }: Pick<MergeOptions, 'signal'>,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await queryRows(live, 'begin', { text: 'begin', signal });
      const result = await work();
      await queryRows(live, 'put rows back', { text: 'commit', signal });
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError) || error.code === 'DATABASE_UNREACHABLE') throw error;
      await queryRows(live, 'roll back', { text: 'rollback', signal });
      if (attempt === ATTEMPTS || !isLock(error)) throw error;
      await delay(PAUSE_MS * attempt, signal);
    }
  }
}

/** Lock not available, deadlock, serialization failure. @source PostgreSQL manual, "PostgreSQL Error Codes" */
function isLock(error: AppError): boolean {
  return ['55P03', '40P01', '40001'].includes(String(error.details?.['sqlState']));
}

/** Integrity constraints, and what triggers that could not be switched off raise. */
function isRefusal(error: AppError): boolean {
  return /^(23|P0|44)/.test(String(error.details?.['sqlState']));
}

/** Null when it is one row. */
function halvesOf({ from, to }: RowRange): readonly [RowRange, RowRange] | null {
  if (to.page - from.page > 1) {
    const middle = { page: Math.floor((from.page + to.page) / 2), offset: 0 };
    return [
      { from, to: middle },
      { from: middle, to },
    ];
  }
  const end = to.page > from.page ? OFFSETS : to.offset;
  if (end - from.offset <= 1) return null;
  const middle = { page: from.page, offset: Math.floor((from.offset + end) / 2) };
  return [
    { from, to: middle },
    { from: middle, to },
  ];
}
