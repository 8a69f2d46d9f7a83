import { AppError } from '../../base/errors.ts';
import type { WalRecord } from './wal-record.ts';
import type { RelationFile } from './wal-transactions.ts';

/** Rows that one record changes, all of one relation. */
export interface RecordRows {
  readonly relation: RelationFile;
  readonly kind: 'inserted' | 'updated' | 'deleted';
  readonly count: number;
}

/** The rows that a record inserts, updates or deletes; null for any other record. @throws CORRUPT */
export function decodeRows(record: WalRecord): RecordRows | null {
  throw new AppError('BUG', `not built yet: ${record.rmgr}`);
}
