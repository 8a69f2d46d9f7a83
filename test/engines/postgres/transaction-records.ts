import { POSTGRES_EPOCH_US } from '../../../src/engines/postgres/wal-transactions.ts';
import type { RecordToBuild } from './wal-builder.ts';

/** Little-endian fields, one behind the other. */
function fields(...parts: readonly (readonly [bits: 16 | 32 | 64, value: number | bigint])[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, [bits]) => sum + bits / 8, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [bits, value] of parts) {
    if (bits === 16) view.setUint16(at, Number(value), true);
    else if (bits === 32) view.setUint32(at, Number(value), true);
    else view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    at += bits / 8;
  }
  return bytes;
}

const at = (us: bigint): readonly [64, bigint] => [64, us - POSTGRES_EPOCH_US];
export const commit = (xid: number, us: bigint): RecordToBuild => ({
  rmgr: 1,
  info: 0x00,
  xid,
  main: fields(at(us)),
});
export const abort = (xid: number, us: bigint): RecordToBuild => ({
  rmgr: 1,
  info: 0x20,
  xid,
  main: fields(at(us)),
});
/** One that leaves a file to be removed. */
export const abortWithFile = (xid: number, us: bigint): RecordToBuild => ({
  rmgr: 1,
  info: 0xa0,
  xid,
  main: fields(at(us), [32, 4], [32, 1], [32, 1663], [32, 16400], [32, 20001]),
});
export const endPrepared = (xid: number, us: bigint, outcome: 'commit' | 'abort'): RecordToBuild => ({
  rmgr: 1,
  info: outcome === 'commit' ? 0xb0 : 0xc0,
  main: fields(at(us), [32, 16], [32, xid]),
});
/** @source access/xact.h, xl_xact_prepare, of release 18 */
export const prepare = (xid: number, us: bigint): RecordToBuild => ({
  rmgr: 1,
  info: 0x10,
  xid,
  main: fields(
    ...([[32, 0], [32, 0], [32, xid], [32, 16400], at(us), [32, 10], [32, 0]] as const),
    ...([
      [32, 0],
      [32, 0],
      [32, 0],
      [32, 0],
      [32, 0],
      [16, 0],
      [16, 3],
      [64, 0],
      [64, 0],
    ] as const),
    // The name, with the zero at its end, filled up to eight bytes.
    [64, 0x007867n],
  ),
});
/** @source commands/dbcommands_xlog.h, xl_dbase_drop_rec */
export const removeDatabase = (xid: number): RecordToBuild => ({
  rmgr: 4,
  info: 0x21,
  xid,
  main: fields([32, 16400], [32, 1], [32, 1663]),
});
export const restorePoint = (name: string, us: bigint): RecordToBuild => {
  const main = new Uint8Array(72);
  main.set(fields(at(us)));
  main.set(Buffer.from(name), 8);
  return { rmgr: 0, info: 0x70, main };
};
/** Work of a transaction: nothing that ends one. */
export const work = (xid: number): RecordToBuild => ({
  rmgr: 10,
  info: 0x10,
  xid,
  main: new Uint8Array(2000),
});
