import { setTimeout as sleep } from 'node:timers/promises';
import { nextSegment, segmentStart } from '../engines/postgres/lsn.ts';
import { openLogView } from '../operations/log/log-view.ts';
import type { Repository } from '../repository/repository.ts';
import { ChangeCounter } from './change-counter.ts';
import type { OpenTransaction } from './open-transaction.ts';
import { type StreamPlace, StreamReader } from './stream-reader.ts';

/** What came before where reading began may be in the spool still. */
const PATIENCE_MS = 300_000;
const RETRY_MS = 2000;

/** Counts nothing out of the ordinary, only what is open at its end. */
const silent = {
  onRows: () => undefined,
  onCatalog: () => undefined,
  onEnd: () => undefined,
  onSavepointLost: () => undefined,
  onLost: () => undefined,
};

export interface EarlierRange {
  readonly from: bigint;
  /** Where reading began: the start of a page. */
  readonly to: bigint;
  /** The first bytes from there on: the record that crosses it ends in them. */
  readonly crossing: Uint8Array;
}

/**
 * Counts from the archive what running transactions did before the position where reading began. Null when the archive does
 * not have that log in time.
 */
export async function countEarlier(
  source: { readonly instance: string; readonly repository: Repository; readonly place: StreamPlace },
  range: EarlierRange,
  signal: AbortSignal,
): Promise<ChangeCounter | null> {
  const giveUpMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const counter = await countOnce(source, range, signal).catch(() => null);
    if (counter !== null) return counter;
    if (signal.aborted || performance.now() > giveUpMs) return null;
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function countOnce(
  { instance, repository, place }: Parameters<typeof countEarlier>[0],
  range: EarlierRange,
  signal: AbortSignal,
): Promise<ChangeCounter> {
  const { systemIdentifier, segmentSize, timeline } = place;
  const owner = { instance, systemIdentifier };
  const view = await openLogView(
    repository,
    { owner, segmentSize, timeline, backupTimelines: [timeline] },
    signal,
  );
  const counter = new ChangeCounter(silent, Number.POSITIVE_INFINITY);
  const reader = new StreamReader({
    onRecord: record => {
      if (record.lsn < range.to) counter.add(record);
    },
    onBegin: () => undefined,
  });
  let at = segmentStart(range.from, segmentSize);
  while (at < range.to) {
    const bytes = await view.read(at);
    const rest = Number(range.to - at);
    reader.push(place, at, rest < bytes.length ? bytes.subarray(0, rest) : bytes);
    at = nextSegment(at, segmentSize);
  }
  reader.push(place, range.to, range.crossing);
  return counter;
}

/** What a transaction did in all: what was counted of it here, and what is known of it from before. */
export function addEarlier(
  earlier: ChangeCounter,
  transaction: OpenTransaction,
  subxids: readonly number[],
): Pick<OpenTransaction, 'totals' | 'created'> {
  for (const xid of subxids) earlier.assign(xid, transaction.xid);
  const before = earlier.find(transaction.xid);
  const totals = new Map(transaction.totals);
  for (const [key, count] of before?.totals ?? []) {
    const own = totals.get(key);
    if (own === undefined) totals.set(key, count);
    else own.add(count);
  }
  return { totals, created: [...(before?.created ?? []), ...transaction.created] };
}
