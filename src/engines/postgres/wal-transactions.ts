import { readU32 } from './little-endian.ts';
import { mainDataOf, type RecordData, RMGR_XACT, type WalRecord } from './wal-record.ts';

/** How a transaction ended, or that it was prepared to end later. */
export interface WalTransaction {
  readonly kind: 'commit' | 'abort' | 'prepare' | 'commit prepared' | 'abort prepared';
  /** Where the record starts. A recovery to this LSN, exclusive, is one to just before this. */
  readonly lsn: bigint;
  readonly endLsn: bigint;
  /** The transaction's own, never a subtransaction's; of a prepared one, the xid that it ran under. Lower 32 bits. */
  readonly xid: number;
  /** When it was committed, aborted or prepared, in microseconds since 1970. Not necessarily ascending in the log. */
  readonly timeUs: bigint;
  /** The subtransactions that end with it: released, or rolled back with the whole. */
  readonly subxids: readonly number[];
  /**
   * Files that are removed with it: of tables dropped, truncated or rewritten (commit) or created (abort). Empty for
   * `prepare`: the record that ends the transaction lists them.
   */
  readonly droppedRelations: readonly RelationFile[];
  /** The name under which it was prepared; null for the others, and where the log leaves it out (wal_level below logical). */
  readonly gid: string | null;
}

/** The place of a relation's files. */
export interface RelationFile {
  readonly tablespace: number;
  readonly database: number;
  readonly file: number;
}

/** Microseconds from 1970, where Unix times start, to 2000, where PostgreSQL's do. */
export const POSTGRES_EPOCH_US = 946_684_800_000_000n;
const POSTGRES_EPOCH_US_NUMBER = Number(POSTGRES_EPOCH_US);

/** @source access/xact.h, XLOG_XACT_* */
const COMMIT = 0x00;
const ABORT = 0x20;
const kinds = new Map<number, WalTransaction['kind']>([
  [COMMIT, 'commit'],
  [0x10, 'prepare'],
  [ABORT, 'abort'],
  [0x30, 'commit prepared'],
  [0x40, 'abort prepared'],
]);
const ASSIGNMENT = 0x50;
const OPERATION_MASK = 0x70;
const HAS_INFO = 0x80;

/** @source access/xact.h, XACT_XINFO_HAS_* */
const INFO_DATABASE = 1 << 0;
const INFO_SUBTRANSACTIONS = 1 << 1;
const INFO_RELATIONS = 1 << 2;
const INFO_INVALIDATIONS = 1 << 3;
const INFO_TWO_PHASE = 1 << 4;
const INFO_GID = 1 << 7;
const INFO_STATISTICS = 1 << 8;

const XID_BYTES = 4;
const RELATION_BYTES = 12;
const INVALIDATION_BYTES = 16;

/**
 * Reads a record that ends or prepares a transaction; null for any other record.
 * @throws CORRUPT when its content is not what its headers promise
 * @source access/rmgrdesc/xactdesc.c, ParseCommitRecord, ParseAbortRecord, ParsePrepareRecord
 */
export function decodeTransaction(record: WalRecord): WalTransaction | null {
  if (record.rmgr !== RMGR_XACT) return null;
  const kind = kinds.get(record.info & OPERATION_MASK);
  if (kind === undefined) return null;
  const data = mainDataOf(record);
  return kind === 'prepare' ? decodePrepare(record, data) : decodeEnd(record, data, kind);
}

/**
 * The time, in microseconds since 1970, of a commit or an abort of which there is no more to say, as of nearly all on a busy
 * server; null for any other record. `mainStart`: where its main data is.
 */
export function plainEndTimeUs(record: WalRecord, mainStart: number): number | null {
  const operation = record.info & OPERATION_MASK;
  if (record.xid === 0 || record.info & HAS_INFO || (operation !== COMMIT && operation !== ABORT))
    return null;
  const low = readU32(record.bytes, mainStart);
  const high = readU32(record.bytes, mainStart + 4) | 0;
  return timeNumber(high * 2 ** 32 + low + POSTGRES_EPOCH_US_NUMBER);
}

/** Whether a record of {@link plainEndTimeUs} is a commit. */
export function isCommit(record: WalRecord): boolean {
  return (record.info & OPERATION_MASK) === COMMIT;
}

/** Microseconds since 1970 fit a number for 285 years; what lies outside is no time of a server, and becomes 0. */
export function timeNumber(timeUs: number): number {
  return timeUs >= 0 && timeUs <= Number.MAX_SAFE_INTEGER ? timeUs : 0;
}

/**
 * Which subtransactions a running transaction has, as a record says of every 64 of them; null for any other record.
 * @throws CORRUPT when its content is not what its headers promise
 * @source access/xact.h, xl_xact_assignment
 */
export function decodeAssignment(
  record: WalRecord,
): { readonly topXid: number; readonly subxids: readonly number[] } | null {
  if (record.rmgr !== RMGR_XACT || (record.info & OPERATION_MASK) !== ASSIGNMENT) return null;
  const data = mainDataOf(record);
  return { topXid: data.u32(), subxids: readXids(data, data.count(XID_BYTES)) };
}

function decodeEnd(record: WalRecord, data: RecordData, kind: WalTransaction['kind']): WalTransaction {
  const timeUs = data.i64() + POSTGRES_EPOCH_US;
  const info = record.info & HAS_INFO ? data.u32() : 0;
  if (info & INFO_DATABASE) data.skip(8);
  const subxids = info & INFO_SUBTRANSACTIONS ? readXids(data, data.count(XID_BYTES)) : [];
  const droppedRelations: RelationFile[] = [];
  if (info & INFO_RELATIONS) {
    for (let left = data.count(RELATION_BYTES); left > 0; left -= 1) {
      droppedRelations.push({ tablespace: data.u32(), database: data.u32(), file: data.u32() });
    }
  }
  if (info & INFO_STATISTICS) {
    // Release 18 widened the object id from 32 to 64 bits.
    const itemBytes = record.majorVersion >= 18 ? 16 : 12;
    data.skip(data.count(itemBytes) * itemBytes);
  }
  if (info & INFO_INVALIDATIONS) data.skip(data.count(INVALIDATION_BYTES) * INVALIDATION_BYTES);
  const xid = info & INFO_TWO_PHASE ? data.u32() : record.xid;
  const gid = info & INFO_GID ? data.text() : null;
  return {
    kind,
    lsn: record.lsn,
    endLsn: record.endLsn,
    xid,
    timeUs,
    subxids,
    droppedRelations,
    gid,
  };
}

/** @source access/xact.h, xl_xact_prepare; twophase.c: behind it, aligned to 8, the gid, the subxids, and the rest */
function decodePrepare(record: WalRecord, data: RecordData): WalTransaction {
  data.skip(8);
  const xid = data.u32();
  data.skip(4);
  const timeUs = data.i64() + POSTGRES_EPOCH_US;
  data.skip(4);
  const subxidCount = data.u32();
  // Counts of the relations to drop; since release 15 those of statistics as well; of invalidations; a flag.
  data.skip(record.majorVersion === 14 ? 14 : 22);
  const gidBytes = data.u16();
  data.skip(16);
  const gid = data.text(gidBytes);
  data.skip((8 - (gidBytes % 8)) % 8);
  const subxids = readXids(data, subxidCount);
  return {
    kind: 'prepare',
    lsn: record.lsn,
    endLsn: record.endLsn,
    xid,
    timeUs,
    subxids,
    droppedRelations: [],
    gid,
  };
}

function readXids(data: RecordData, count: number): number[] {
  const bytes = data.take(count * XID_BYTES);
  return Array.from({ length: count }, (_, index) => readU32(bytes, index * XID_BYTES));
}
