import { type Checkpoint, parseCheckpoint } from './control-file.ts';
import { mainDataOf, type RecordData, RMGR_XLOG, type WalRecord } from './wal-record.ts';
import { POSTGRES_EPOCH_US } from './wal-transactions.ts';

/** What the log says of itself: records of the resource manager XLOG that matter to a recovery. */
export type WalEvent = { readonly lsn: bigint; readonly endLsn: bigint } & (
  | { readonly kind: 'checkpoint'; readonly shutdown: boolean; readonly checkpoint: Checkpoint }
  /** Made by pg_create_restore_point(). */
  | { readonly kind: 'restore point'; readonly name: string; readonly timeUs: bigint }
  /** The base backup that started at `startLsn` is complete up to here. */
  | { readonly kind: 'backup end'; readonly startLsn: bigint }
  /** The log goes on in the next segment: pg_switch_wal() or archive_timeout. */
  | { readonly kind: 'switch' }
  | ({ readonly kind: 'end of recovery'; readonly timeUs: bigint } & Timelines)
  | ({ readonly kind: 'parameter change' } & RecoverySettings)
  | { readonly kind: 'full page writes'; readonly on: boolean }
  /** The record at `overwrittenLsn` was lost in a crash; the log goes on here without it. */
  | { readonly kind: 'overwrite'; readonly overwrittenLsn: bigint; readonly timeUs: bigint }
);

interface Timelines {
  readonly timeline: number;
  readonly previousTimeline: number;
}

/** Settings of the server that wrote the log; a recovery must have at least as much of each. */
export interface RecoverySettings {
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedTransactions: number;
  readonly maxLocksPerTransaction: number;
  readonly walLevel: 'minimal' | 'replica' | 'logical' | 'unknown';
  readonly walLogHints: boolean;
  readonly trackCommitTimestamp: boolean;
}

/** @source catalog/pg_control.h, XLOG_* */
const CHECKPOINT_SHUTDOWN = 0x00;
const CHECKPOINT_ONLINE = 0x10;
const SWITCH = 0x40;
const BACKUP_END = 0x50;
const PARAMETER_CHANGE = 0x60;
const RESTORE_POINT = 0x70;
const FPW_CHANGE = 0x80;
const END_OF_RECOVERY = 0x90;
const PAGE_IMAGE = 0xb0;
const OVERWRITE_CONTRECORD = 0xd0;
const OPERATION_MASK = 0xf0;

/** Pages written as a whole, as into a new file; not those that only hint bits changed. @source access/transam/xloginsert.c, log_newpage */
export function isPageImage({ rmgr, info }: WalRecord): boolean {
  return rmgr === RMGR_XLOG && (info & OPERATION_MASK) === PAGE_IMAGE;
}

/** @source access/xlog_internal.h, MAXFNAMELEN */
const RESTORE_POINT_NAME_BYTES = 64;
/** @source catalog/pg_control.h, CheckPoint: up to oldestActiveXid */
const CHECKPOINT_BYTES = 84;

/**
 * Reads a record of XLOG that is one of {@link WalEvent}; null for any other record.
 * @throws CORRUPT when its content is not what its headers promise
 * @source access/rmgrdesc/xlogdesc.c, access/xlog_internal.h
 */
export function decodeEvent(record: WalRecord): WalEvent | null {
  if (record.rmgr !== RMGR_XLOG) return null;
  const operation = record.info & OPERATION_MASK;
  switch (operation) {
    case CHECKPOINT_SHUTDOWN:
    case CHECKPOINT_ONLINE:
      return decodeCheckpoint(record, operation === CHECKPOINT_SHUTDOWN);
    case SWITCH:
      return { kind: 'switch', ...place(record) };
    case BACKUP_END:
      return { kind: 'backup end', ...place(record), startLsn: mainDataOf(record).u64() };
    case PARAMETER_CHANGE:
      return { kind: 'parameter change', ...place(record), ...decodeSettings(mainDataOf(record)) };
    case RESTORE_POINT: {
      const data = mainDataOf(record);
      const timeUs = readTimeUs(data);
      return { kind: 'restore point', ...place(record), timeUs, name: data.text(RESTORE_POINT_NAME_BYTES) };
    }
    case FPW_CHANGE:
      return { kind: 'full page writes', ...place(record), on: mainDataOf(record).u8() !== 0 };
    case END_OF_RECOVERY: {
      const data = mainDataOf(record);
      const timeUs = readTimeUs(data);
      return {
        kind: 'end of recovery',
        ...place(record),
        timeUs,
        timeline: data.u32(),
        previousTimeline: data.u32(),
      };
    }
    case OVERWRITE_CONTRECORD: {
      const data = mainDataOf(record);
      return { kind: 'overwrite', ...place(record), overwrittenLsn: data.u64(), timeUs: readTimeUs(data) };
    }
    default:
      return null;
  }
}

function place(record: WalRecord): { lsn: bigint; endLsn: bigint } {
  return { lsn: record.lsn, endLsn: record.endLsn };
}

function readTimeUs(data: RecordData): bigint {
  return data.i64() + POSTGRES_EPOCH_US;
}

function decodeCheckpoint(record: WalRecord, shutdown: boolean): WalEvent {
  const bytes = mainDataOf(record).take(CHECKPOINT_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { kind: 'checkpoint', ...place(record), shutdown, checkpoint: parseCheckpoint(view, 0, record.lsn) };
}

/** @source access/xlog_internal.h, xl_parameter_change */
function decodeSettings(data: RecordData): RecoverySettings {
  return {
    maxConnections: data.u32(),
    maxWorkerProcesses: data.u32(),
    maxWalSenders: data.u32(),
    maxPreparedTransactions: data.u32(),
    maxLocksPerTransaction: data.u32(),
    walLevel: (['minimal', 'replica', 'logical'] as const)[data.u32()] ?? 'unknown',
    walLogHints: data.u8() !== 0,
    trackCommitTimestamp: data.u8() !== 0,
  };
}
