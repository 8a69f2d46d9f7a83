import type { RelationFile } from '../../../src/engines/postgres/wal-transactions.ts';
import type { RecordToBuild } from './wal-builder.ts';

/** Records as PostgreSQL 18 writes them, with as much content as matters. */

const RMGR = { xlog: 0, xact: 1, smgr: 2, standby: 8, heap2: 9, heap: 10, message: 21 } as const;
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

function u32(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    view.setUint32(index * 4, value, true);
  });
  return bytes;
}

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

const place = ({ tablespace, database, file }: RelationFile): Uint8Array => u32(tablespace, database, file);

export interface BlockToBuild {
  readonly relation: RelationFile;
  readonly block: number;
  readonly fork?: number;
  readonly willInit?: boolean;
  /** An image of a page, with a hole that leaves so many bytes; `apply`: redo uses it. */
  readonly image?: { readonly bytes: number; readonly apply: boolean };
  readonly sameRelation?: boolean;
}

/** The content of a record with pages, its main data behind them. */
export function withBlocks(blocks: readonly BlockToBuild[], main: Uint8Array): Uint8Array {
  const headers: Uint8Array[] = [];
  const data: Uint8Array[] = [];
  blocks.forEach((block, id) => {
    const flags =
      (block.fork ?? 0) |
      (block.image ? 0x10 : 0) |
      (block.willInit ? 0x40 : 0) |
      (block.sameRelation ? 0x80 : 0);
    headers.push(Uint8Array.of(id, flags, 0, 0));
    if (block.image) {
      const { bytes, apply } = block.image;
      headers.push(Uint8Array.of(bytes & 0xff, bytes >> 8, 24, 0, 0x01 | (apply ? 0x02 : 0)));
      data.push(new Uint8Array(bytes).fill(id + 1));
    }
    if (!block.sameRelation) headers.push(place(block.relation));
    headers.push(u32(block.block));
  });
  if (main.length > 0) headers.push(Uint8Array.of(255, main.length));
  return new Uint8Array(Buffer.concat([...headers, ...data, main]));
}

function heap(
  { info, xid, rmgr = RMGR.heap }: { info: number; xid: number; rmgr?: number },
  block: BlockToBuild,
  main: readonly number[],
): RecordToBuild {
  return { rmgr, info, xid, content: withBlocks([block], Uint8Array.from(main)) };
}

export function insert(
  xid: number,
  relation: RelationFile,
  block: number,
  options: { readonly speculative?: boolean } = {},
): RecordToBuild {
  return heap({ info: 0x00, xid }, { relation, block }, [1, 0, options.speculative ? 1 << 2 : 0]);
}

export function confirm(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x50, xid }, { relation, block }, [1, 0]);
}

export function remove(
  xid: number,
  relation: RelationFile,
  block: number,
  options: { readonly super?: boolean } = {},
): RecordToBuild {
  return heap({ info: 0x10, xid }, { relation, block }, [0, 0, 0, 0, 1, 0, 0, options.super ? 1 << 3 : 0]);
}

export function update(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x20, xid }, { relation, block }, new Array(14).fill(0));
}

export function hotUpdate(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x40, xid }, { relation, block }, new Array(14).fill(0));
}

export function lock(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x60, xid }, { relation, block }, new Array(8).fill(0));
}

export function inPlace(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x70, xid }, { relation, block }, [1, 0]);
}

export function multiInsert(xid: number, relation: RelationFile, block: number, rows: number): RecordToBuild {
  const main = [0, 0, rows & 0xff, rows >> 8];
  return heap({ info: 0x50, xid, rmgr: RMGR.heap2 }, { relation, block, willInit: true }, main);
}

export function prune(xid: number, relation: RelationFile, block: number): RecordToBuild {
  return heap({ info: 0x10, xid, rmgr: RMGR.heap2 }, { relation, block }, [0, 0]);
}

export function pageImage(relation: RelationFile, block: number): RecordToBuild {
  const content = withBlocks([{ relation, block, image: { bytes: 900, apply: true } }], new Uint8Array(0));
  return { rmgr: RMGR.xlog, info: 0xb0, content };
}

interface EndOptions {
  readonly subxids?: readonly number[];
  readonly dropped?: readonly RelationFile[];
}

function ending(
  { info, xid, prepared = null }: { info: number; xid: number; prepared?: number | null },
  timeUs: bigint,
  { subxids = [], dropped = [] }: EndOptions = {},
): RecordToBuild {
  const flags = (subxids.length > 0 ? 2 : 0) | (dropped.length > 0 ? 4 : 0) | (prepared === null ? 0 : 16);
  const main = Buffer.concat([
    u64(BigInt.asUintN(64, timeUs - POSTGRES_EPOCH_US)),
    flags === 0 ? u32() : u32(flags),
    subxids.length > 0 ? u32(subxids.length, ...subxids) : u32(),
    dropped.length > 0 ? Buffer.concat([u32(dropped.length), ...dropped.map(place)]) : u32(),
    prepared === null ? u32() : u32(prepared),
  ]);
  return { rmgr: RMGR.xact, info: info | (flags === 0 ? 0 : 0x80), xid, main: new Uint8Array(main) };
}

export function commit(xid: number, timeUs: bigint, options?: EndOptions): RecordToBuild {
  return ending({ info: 0x00, xid }, timeUs, options);
}

export function abort(xid: number, timeUs: bigint, options?: EndOptions): RecordToBuild {
  return ending({ info: 0x20, xid }, timeUs, options);
}

export function commitPrepared(xid: number, timeUs: bigint): RecordToBuild {
  return ending({ info: 0x30, xid: 0, prepared: xid }, timeUs);
}

export function prepare(xid: number, gid: string, timeUs: bigint): RecordToBuild {
  const name = Buffer.from(`${gid}\0`);
  const main = Buffer.concat([
    u32(0x57f94534, 0, xid, 5),
    u64(BigInt.asUintN(64, timeUs - POSTGRES_EPOCH_US)),
    u32(10, 0),
    // Counts of relations, statistics and invalidations, a flag: 22 bytes from release 15 on.
    new Uint8Array(22),
    Uint8Array.of(name.length, 0),
    new Uint8Array(16),
    name,
    new Uint8Array((8 - (name.length % 8)) % 8),
  ]);
  return { rmgr: RMGR.xact, info: 0x10, xid, main: new Uint8Array(main) };
}

export function assignment(xid: number, subxids: readonly number[]): RecordToBuild {
  return { rmgr: RMGR.xact, info: 0x50, xid, main: u32(xid, subxids.length, ...subxids) };
}

export function createRelation(xid: number, relation: RelationFile): RecordToBuild {
  const main = new Uint8Array(Buffer.concat([place(relation), u32(0)]));
  return { rmgr: RMGR.smgr, info: 0x11, xid, main };
}

export function lockRelation(xid: number, { database, file }: RelationFile): RecordToBuild {
  return { rmgr: RMGR.standby, info: 0x00, xid, main: u32(1, xid, database, file) };
}

/** A checkpoint of zeros, but for what makes it one. */
export function shutdownCheckpoint(): RecordToBuild {
  return { rmgr: RMGR.xlog, info: 0x00, main: new Uint8Array(88) };
}

export function switchSegment(): RecordToBuild {
  return { rmgr: RMGR.xlog, info: 0x40 };
}

/** A record of any length without pages, of a resource manager that nothing is read of. */
export function message(xid: number, bytes: number): RecordToBuild {
  return { rmgr: RMGR.message, info: 0x00, xid, main: new Uint8Array(bytes).fill(xid & 0xff) };
}
