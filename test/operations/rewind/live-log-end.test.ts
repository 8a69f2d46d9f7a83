import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ControlFile } from '../../../src/engines/postgres/control-file.ts';
import { segmentName } from '../../../src/engines/postgres/lsn.ts';
import { findLiveLogEnd } from '../../../src/operations/rewind/live-log-end.ts';
import { type BuiltRecord, buildWal } from '../../engines/postgres/wal-builder.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const MIB = 1024 * 1024;
const START = BigInt(16 * MIB);
const SYSTEM = 7566129433051829306n;

interface World {
  readonly directory: string;
  readonly records: readonly BuiltRecord[];
  readonly bytes: Uint8Array;
}

/** Two segments and a bit of records of 400 bytes, in files of a `pg_wal`; what is behind them is zeros. */
async function world(directory: string): Promise<World> {
  const records = Array.from({ length: 5500 }, (_, n) => ({
    rmgr: 10,
    info: 0,
    xid: n,
    main: new Uint8Array(370).fill(n % 250),
  }));
  const wal = buildWal({ segmentSize: MIB, startLsn: START, records, systemIdentifier: SYSTEM });
  const bytes = new Uint8Array(3 * MIB);
  bytes.set(wal.bytes);
  await write(directory, bytes);
  return { directory, records: wal.records, bytes };
}

async function write(directory: string, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += MIB) {
    const name = segmentName(1, START + BigInt(at), MIB);
    await writeFile(join(directory, name), bytes.subarray(at, at + MIB));
  }
}

function control(state: ControlFile['state'], checkpoint: bigint, minRecovery = 0n): ControlFile {
  return {
    walSegmentSize: MIB,
    systemIdentifier: String(SYSTEM),
    state,
    checkpoint: { lsn: checkpoint, timeline: 1 },
    minRecoveryLsn: minRecovery,
  } as ControlFile;
}

const find = (directory: string, of: ControlFile, from = START): ReturnType<typeof findLiveLogEnd> =>
  findLiveLogEnd(directory, { control: of, from });

test('a server that was stopped - its log ends with its last checkpoint', async () => {
  await using root = await temporaryDirectory();
  const { records } = await world(root.path);
  const last = records.at(-1)!;
  const end = await find(root.path, control('shut down', last.lsn));
  expect(end).toMatchObject({ endLsn: last.endLsn });
  expect(typeof end === 'string' ? [] : end.segments.map(each => each.lsn)).toEqual([
    START,
    START + BigInt(MIB),
    START + BigInt(2 * MIB),
  ]);
  expect(await find(root.path, control('shut down', records.at(-2)!.lsn))).toContain(
    'does not end with the checkpoint',
  );
});

test('a server that crashed - its log ends with the last whole record, which is no earlier than its checkpoint', async () => {
  await using root = await temporaryDirectory();
  const { records, bytes } = await world(root.path);
  const last = records.at(-1)!;
  const crashed = control('in production', records[10]!.lsn);
  expect(await find(root.path, crashed)).toMatchObject({ endLsn: last.endLsn });
  // Killed while it wrote its last record.
  const cut = Uint8Array.from(bytes);
  cut.fill(0, Number(last.lsn - START) + 40);
  await write(root.path, cut);
  expect(await find(root.path, crashed)).toMatchObject({ endLsn: records.at(-2)!.endLsn });
  expect(await find(root.path, control('in production', last.endLsn))).toContain('before position');
  expect(await find(root.path, control('in crash recovery', records[10]!.lsn, last.endLsn))).toContain(
    'before position',
  );
});

test('a hole in the log, with more of it behind - is never taken for its end', async () => {
  await using root = await temporaryDirectory();
  const { records, bytes } = await world(root.path);
  const crashed = control('in production', records[10]!.lsn);
  const middle = Number(records[3000]!.lsn - START);
  const flipped = Uint8Array.from(bytes);
  flipped[middle + 100]! ^= 1;
  await write(root.path, flipped);
  expect(await find(root.path, crashed)).toContain('it goes on behind that');
  const zeroed = Uint8Array.from(bytes);
  zeroed.fill(0, middle, middle + 20_000);
  await write(root.path, zeroed);
  expect(await find(root.path, crashed)).toContain('it goes on behind that');
  // A segment that is gone.
  await write(root.path, bytes);
  await rm(join(root.path, segmentName(1, START + BigInt(MIB), MIB)));
  expect(await find(root.path, crashed)).toContain('a segment is missing, and it goes on behind that');
  // At the very end of a segment: the next file tells it.
  const boundary = Uint8Array.from(bytes);
  boundary.fill(0, 2 * MIB - 3000, 2 * MIB);
  await write(root.path, boundary);
  expect(await find(root.path, crashed)).toContain('it goes on behind that');
});

test('old segments under new names behind the end - are no log', async () => {
  await using root = await temporaryDirectory();
  const { records, bytes } = await world(root.path);
  // Renamed for later, with what they had: pages that say they are elsewhere.
  await writeFile(join(root.path, segmentName(1, START + BigInt(3 * MIB), MIB)), bytes.subarray(0, MIB));
  const recycled = Uint8Array.from(bytes);
  const end = Math.ceil(Number(records.at(-1)!.endLsn - START) / 8192) * 8192;
  recycled.set(bytes.subarray(end - 2 * MIB, MIB), end);
  await write(root.path, recycled);
  expect(await find(root.path, control('in production', records[10]!.lsn))).toMatchObject({
    endLsn: records.at(-1)!.endLsn,
  });
});
