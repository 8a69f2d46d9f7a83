import { AppError } from '../../base/errors.ts';
import type { RelationRows, TransactionSummary } from './segment-summary.ts';
import type { KeptRecord } from './segment-summary-content.ts';
import {
  OUTCOME_ABORTED,
  OUTCOME_COMMITTED,
  OUTCOME_CRASHED,
  OUTCOME_OPEN,
  OUTCOME_PREPARED,
  type RowCounts,
  type TransactionPart,
} from './segment-summary-parts.ts';
import { decodeEvent, type WalEvent } from './wal-events.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';
import { recordAt, type WalRecord } from './wal-record.ts';
import { decodeStorage, relationsDropped, type StorageEvent } from './wal-storage.ts';
import { decodeTransaction, type RelationFile } from './wal-transactions.ts';

/** Where the positions of a summary count from, and what its records are of. */
export interface SummaryOrigin {
  readonly lsn: bigint;
  readonly majorVersion: PostgresMajorVersion;
}

const outcomes: Readonly<Record<number, TransactionSummary['outcome']>> = {
  [OUTCOME_OPEN]: 'open',
  [OUTCOME_PREPARED]: 'prepare',
  [OUTCOME_COMMITTED]: 'commit',
  [OUTCOME_ABORTED]: 'abort',
  [OUTCOME_CRASHED]: 'abort',
};

/** A part of a transaction as others see it. @throws CORRUPT when it names a relation that there is not */
export function transactionSummary(
  part: TransactionPart,
  lsn: bigint,
  relations: readonly RelationFile[],
): TransactionSummary {
  const isDone = part.outcome !== OUTCOME_OPEN && part.outcome !== OUTCOME_CRASHED;
  const rows = relationRows(part.rows, relations);
  const dropped = part.dropped.map(number => relationAt(number, relations));
  const created = part.created.map(number => relationAt(number, relations));
  const files = [...rows.map(({ relation }) => relation), ...created, ...dropped];
  return {
    xid: part.xid,
    firstLsn: lsn + BigInt(part.firstAt),
    endLsn: isDone ? lsn + BigInt(part.endAt) : null,
    recordEndLsn: isDone ? lsn + BigInt(part.recordEndAt) : null,
    outcome: outcomes[part.outcome] ?? 'open',
    timeUs: isDone ? BigInt(part.timeUs) : null,
    gid: part.gid,
    // Catalogs that all databases share have none.
    database: files.find(({ database }) => database !== 0)?.database ?? null,
    rows,
    dropped,
    created,
  };
}

export function relationRows(counts: RowCounts, relations: readonly RelationFile[]): RelationRows[] {
  const rows: RelationRows[] = [];
  for (const [number, inserted, updated, deleted] of counts.entries())
    rows.push({ relation: relationAt(number, relations), inserted, updated, deleted });
  return rows;
}

/** Of records that were kept, those that change files, in their order. */
export function storageEvents(kept: readonly KeptRecord[], origin: SummaryOrigin): StorageEvent[] {
  return kept.flatMap(each => {
    const record = recordOf(each, origin);
    const event = decodeStorage(record);
    if (event !== null) return [event];
    const ending = decodeTransaction(record);
    return ending === null ? [] : relationsDropped(ending);
  });
}

/** Of records that were kept, what the log says of itself, in its order. */
export function logEvents(kept: readonly KeptRecord[], origin: SummaryOrigin): WalEvent[] {
  return kept.map(each => decodeEvent(recordOf(each, origin))).filter(event => event !== null);
}

function recordOf({ at, endAt, bytes }: KeptRecord, { lsn, majorVersion }: SummaryOrigin): WalRecord {
  return recordAt(bytes, { origin: lsn, at, endsAt: endAt, majorVersion });
}

function relationAt(number: number, relations: readonly RelationFile[]): RelationFile {
  const relation = relations[number];
  if (relation === undefined)
    throw new AppError(
      'CORRUPT',
      `unable to read the summary of a log segment: it has no relation ${number}`,
    );
  return relation;
}
