import { mainDataOf, RMGR_STANDBY, type WalRecord } from './wal-record.ts';

/** What the server says now and then of the transactions that run. Lower 32 bits. */
export interface RunningTransactions {
  /** None from here on was given to anybody. */
  readonly nextXid: number;
  /** All before it have ended. */
  readonly oldestRunningXid: number;
}

/** @source storage/standbydefs.h, XLOG_RUNNING_XACTS, xl_running_xacts */
const RUNNING_TRANSACTIONS = 0x10;
const OPERATION_MASK = 0xf0;
/** Two counts, and a flag with what aligns it. */
const BEFORE_XIDS_BYTES = 12;

/** Null for any other record. @throws CORRUPT when its content is not what its headers promise */
export function decodeRunning(record: WalRecord): RunningTransactions | null {
  if (record.rmgr !== RMGR_STANDBY || (record.info & OPERATION_MASK) !== RUNNING_TRANSACTIONS) return null;
  const data = mainDataOf(record);
  data.skip(BEFORE_XIDS_BYTES);
  return { nextXid: data.u32(), oldestRunningXid: data.u32() };
}
