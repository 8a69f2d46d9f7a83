import { AppError } from '../../base/errors.ts';
import type { WalRecord } from './wal-record.ts';
import type { RelationFile } from './wal-transactions.ts';

/** A page that a record changes. */
export interface BlockReference {
  readonly relation: RelationFile;
  /** 0 main, 1 free space map, 2 visibility map, 3 initial. */
  readonly fork: number;
  readonly block: number;
  /** Redo overwrites the whole page without reading it: an image with APPLY, or WILL_INIT. */
  readonly overwritten: boolean;
}

/** Calls `visit` for every page that a record of any resource manager changes. @throws CORRUPT */
export function forEachBlock(record: WalRecord, visit: (reference: BlockReference) => void): void {
  throw new AppError('BUG', `not built yet: ${record.rmgr} ${visit.length}`);
}
