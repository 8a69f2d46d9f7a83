import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readGaps, recordGap } from '../../src/agent/stream-gaps.ts';
import { temporaryDirectory } from '../support/temp.ts';

const MIB = 1024 * 1024;
const at = (segment: number, bytes = 0): bigint => BigInt(segment * MIB + bytes);

test.each([
  ['ends within a segment', 300],
  ['ends with a segment that has no name yet', MIB],
])(
  'what was received %s - the hole behind it is told once, however often one comes there',
  async (_, bytes) => {
    await using place = await temporaryDirectory();
    const path = join(place.path, 'gaps.json');
    const record = async (hole: {
      lsn: bigint;
      received: bigint;
      to: bigint;
    }): ReturnType<typeof recordGap> =>
      await recordGap(path, { systemIdentifier: '7', timeline: 1, ...hole }, MIB);
    const first = await record({ lsn: at(5), received: at(5, bytes), to: at(20) });
    expect(first).toMatchObject({ from: bytes === MIB ? '0/600000' : '0/50012C', to: '0/1400000' });
    // The file from before is not archived yet; behind the hole 22 was received, and 21 is the first that the server has.
    expect(await record({ lsn: at(5), received: at(22, 9), to: at(21) })).toBeNull();
    // That the server has lost more since is another one.
    expect(await record({ lsn: at(5), received: at(22, 9), to: at(30) })).toMatchObject({
      from: '0/1600009',
    });
    // Nothing is known of a hole here: what was received behind it does not count.
    expect(await record({ lsn: at(40), received: at(50), to: at(45) })).toMatchObject({
      from: '0/2800000',
      to: '0/2D00000',
    });
    expect(readGaps(path).length).toBe(3);
  },
);
