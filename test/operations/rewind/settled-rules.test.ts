import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ChangeMap, type ForkChanges, forkKey } from '../../../src/engines/postgres/change-map.ts';
import type { StorageEvent } from '../../../src/engines/postgres/wal-storage.ts';
import { type PageWork, pageRules } from '../../../src/operations/rewind/page-rules.ts';
import { BLOCK, blocksOf } from './blocks-of.ts';

const FILE_BLOCKS = 16;
const relation = { tablespace: 1663, database: 5, file: 16_400 };
const key = forkKey(relation, 0);
/** The log goes from 0 to 9. */
const [CHECKPOINT, TARGET] = [4, 7];

/** A record that changes a page. */
interface Change {
  readonly at: number;
  readonly block: number;
  readonly overwrites: boolean;
}

/** What the log from a place on says of pages, by their first records. */
function changesFrom(changes: readonly Change[], from: number): ForkChanges {
  const first = new Map<number, Change>();
  for (const change of changes)
    if (change.at >= from && !first.has(change.block)) first.set(change.block, change);
  const sorted = [...first.values()].sort((a, b) => a.block - b.block);
  return {
    ...{ relation, fork: 0, blocks: Uint32Array.from(sorted.map(({ block }) => block)) },
    overwrittenFirst: Uint8Array.from(
      sorted.map(({ at, overwrites }) => (overwrites && at < TARGET ? 1 : 0)),
    ),
  };
}

interface File {
  readonly base: number;
  readonly live: number;
  readonly segment: number;
}

function workOf(
  changes: readonly Change[],
  file: File,
  how: {
    readonly leaveSettled?: boolean;
    readonly storage?: readonly object[];
    readonly isSpGist?: boolean;
  } = {},
): PageWork {
  const storage = (how.storage ?? []).map(event => ({ lsn: 1n, xid: 0, ...event }) as StorageEvent);
  const all = changesFrom(changes, 0);
  const forks = new Map(all.blocks.length === 0 ? [] : [[key, all]]);
  const map: ChangeMap = { from: 0n, target: BigInt(TARGET), to: 10n, forks, storage, events: [] };
  const since = changesFrom(changes, CHECKPOINT);
  const pages = new Map(since.blocks.length === 0 ? [] : [[key, since]]);
  const rules = pageRules(
    map,
    { blockSize: BLOCK, relationSegmentBlocks: FILE_BLOCKS },
    { keepingCosts: 1, settling: { from: 4n, pages, spares: 3 }, leaveSettled: how.leaveSettled ?? true },
  );
  return rules.workOf({
    path: file.segment === 0 ? 'base/5/16400' : `base/5/16400.${file.segment}`,
    baseBytes: file.base * BLOCK,
    liveBytes: file.live * BLOCK,
    isSpGist: () => how.isSpGist ?? false,
  })!;
}

const HOLE = -1;

/** What is in the file when the replay begins: how many of its page's changes every page has, or a hole. */
function rewritten(work: PageWork, file: File, changesOf: (block: number) => Change[]): number[] {
  const live = (block: number): number => (block < file.live ? changesOf(block).length : HOLE);
  if (work.kind === 'keep') return Array.from({ length: file.live }, (_, block) => live(block));
  if (work.kind === 'replace') {
    const [left, fromLive] = [blocksOf(work.left), blocksOf(work.fromLive)];
    return Array.from({ length: file.base }, (_, block) => {
      if (left.has(block)) return HOLE;
      return fromLive.has(block) ? live(block) : 0;
    });
  }
  const [fromBase, zeroed] = [blocksOf(work.fromBase), blocksOf(work.zeroed)];
  const length = Math.max(file.base, work.settledUpTo / BLOCK);
  return Array.from({ length }, (_, block) => {
    // Of a page that the backup does not have, nothing at all is what it has.
    if (zeroed.has(block)) return block < file.base ? HOLE : 0;
    return fromBase.has(block) ? 0 : live(block);
  });
}

/** The same, when all changes before the target are replayed but for those of settled pages before the checkpoint. */
function replayed(
  content: number[],
  how: { readonly changes: readonly Change[]; readonly firstBlock: number; readonly settledUpTo: number },
): number[] {
  const since = changesFrom(how.changes, CHECKPOINT);
  const isSettled = (block: number): boolean => {
    const index = since.blocks.indexOf(block);
    return (
      (block - how.firstBlock) * BLOCK < how.settledUpTo &&
      (index === -1 || since.overwrittenFirst[index] === 1)
    );
  };
  const done = new Map<number, number>();
  for (const { at, block, overwrites } of how.changes) {
    if (at >= TARGET) break;
    const number = (done.get(block) ?? 0) + 1;
    done.set(block, number);
    if (at < CHECKPOINT && isSettled(block)) continue;
    const own = block - how.firstBlock;
    while (content.length <= own) content.push(0);
    // One that reads a page of a later time leaves it.
    if (overwrites || content[own] === number - 1) content[own] = number;
    else if (content[own]! < number)
      throw new Error(`block ${block} is ${content[own]} before change ${number}`);
  }
  return content;
}

const aCase = fc
  .record({
    base: fc.integer({ min: 0, max: FILE_BLOCKS }),
    more: fc.nat(2),
    segment: fc.nat(1),
    changes: fc.array(
      fc.record({ at: fc.nat(9), block: fc.nat(FILE_BLOCKS - 1), overwrites: fc.boolean() }),
      { maxLength: 25 },
    ),
  })
  .map(({ base, more, segment, changes }) => {
    const last = Math.max(base, ...changes.map(({ block }) => block + 1));
    const firstBlock = segment * FILE_BLOCKS;
    return {
      file: { base, live: Math.min(FILE_BLOCKS, last + more), segment },
      firstBlock,
      changes: changes
        .map(change => ({ ...change, block: change.block + firstBlock }))
        .sort((a, b) => a.at - b.at),
    };
  });

describe('any changes of a file that is not cut', () => {
  test.each([true, false])(
    'settled pages left: %s - a replay makes every page what it was at the target, and the file as long',
    leaveSettled => {
      let settledCases = 0;
      fc.assert(
        fc.property(aCase, ({ file, firstBlock, changes }) => {
          const work = workOf(changes, file, { leaveSettled });
          const changesOf = (block: number): Change[] =>
            changes.filter(change => change.block === block + firstBlock);
          const settledUpTo = work.kind === 'patch' ? work.settledUpTo : 0;
          const begun = rewritten(work, file, changesOf);
          const after = replayed(begun, { changes, firstBlock, settledUpTo });
          const before = changes.filter(({ at }) => at < TARGET);
          const length = Math.max(file.base, ...before.map(({ block }) => block - firstBlock + 1));
          expect(after).toEqual(
            Array.from({ length }, (_, block) => changesOf(block).filter(({ at }) => at < TARGET).length),
          );
          if (work.kind !== 'patch') return;
          if (work.settledBytes > 0) settledCases += 1;
          // All that is changed, or was, can be brought back.
          const kept = blocksOf(work.changed);
          for (let block = 0; block < file.live; block += 1)
            if (changesOf(block).length > 0 || block >= file.base) expect(kept.has(block)).toBe(true);
        }),
        { numRuns: 3000 },
      );
      expect(settledCases > 300).toBe(leaveSettled);
    },
  );
});

const changes: Change[] = [
  { at: 1, block: 1, overwrites: false },
  { at: 1, block: 2, overwrites: false },
  { at: 5, block: 2, overwrites: true },
  { at: 1, block: 3, overwrites: false },
  { at: 5, block: 3, overwrites: false },
  { at: 8, block: 4, overwrites: false },
  { at: 2, block: 11, overwrites: true },
  { at: 5, block: 10, overwrites: false },
  { at: 5, block: 12, overwrites: true },
];
const file = { base: 10, live: 14, segment: 0 };

test('changed before the checkpoint, or overwritten after it - left; changed after it, or after the target - from the backup', () => {
  expect(workOf(changes, file)).toEqual({
    kind: 'patch',
    fromBase: [3 * BLOCK, 2 * BLOCK],
    changed: [BLOCK, 4 * BLOCK, 10 * BLOCK, 4 * BLOCK],
    leftBytes: 0,
    settledBytes: 4 * BLOCK,
    overwrittenBytes: 2 * BLOCK,
    settledUpTo: 13 * BLOCK,
    zeroed: [10 * BLOCK, BLOCK],
  });
});

test.each([
  ['a relation that was cut', { storage: [{ kind: 'relation truncated', relation, blocks: 9, forks: [0] }] }],
  [
    'a database that is copied',
    {
      storage: [
        {
          kind: 'database created',
          database: 9,
          tablespace: 1663,
          source: { database: 5, tablespace: 1663 },
        },
      ],
    },
  ],
  ['an SP-GiST index', { isSpGist: true }],
  ['a rewind that is gone on with', { leaveSettled: false }],
] as const)('%s - has no settled pages', (_, how) => {
  const work = workOf(changes, file, how);
  if (work.kind === 'patch') expect(work).toMatchObject({ settledBytes: 0, settledUpTo: 0, zeroed: [] });
  else expect(work.kind).toBe('replace');
});
