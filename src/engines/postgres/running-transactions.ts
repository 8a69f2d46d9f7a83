import { readU32 } from './little-endian.ts';
import { mainDataOf, RMGR_STANDBY, RMGR_XLOG, type WalRecord } from './wal-record.ts';

const OPERATION_MASK = 0xf0;
/** @source storage/standbydefs.h, XLOG_RUNNING_XACTS; xl_running_xacts: behind two counts and a flag the next xid */
const RUNNING_XACTS = 0x10;
const RUNNING_NEXT_XID_AT = 12;
/** @source catalog/pg_control.h, XLOG_CHECKPOINT_SHUTDOWN; CheckPoint: the next xid, whose lower half comes first */
const CHECKPOINT_SHUTDOWN = 0x00;
const CHECKPOINT_NEXT_XID_AT = 24;

/**
 * Whether a record says that a transaction has not begun yet: it names the next number that will be given out. The server
 * writes one with every checkpoint, every 15 seconds where anything happens, and when it shuts down.
 */
export function startsAfter(record: WalRecord, xid: number): boolean {
  const operation = record.info & OPERATION_MASK;
  const at =
    record.rmgr === RMGR_STANDBY && operation === RUNNING_XACTS
      ? RUNNING_NEXT_XID_AT
      : record.rmgr === RMGR_XLOG && operation === CHECKPOINT_SHUTDOWN
        ? CHECKPOINT_NEXT_XID_AT
        : null;
  if (at === null) return false;
  // Numbers wrap around: the half of them before one is its past.
  return ((xid - readU32(mainDataOf(record).take(at + 4), at)) | 0) >= 0;
}
