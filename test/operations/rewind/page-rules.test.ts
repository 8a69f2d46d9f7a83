import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ChangeMap, type ForkChanges, forkKey } from '../../../src/engines/postgres/change-map.ts';
import type { StorageEvent } from '../../../src/engines/postgres/wal-storage.ts';
import { type PageWork, pageRules } from '../../../src/operations/rewind/page-rules.ts';
import { BLOCK, blocksOf } from './blocks-of.ts';

const facts = { blockSize: BLOCK, relationSegmentBlocks: 16 };
const relation = { tablespace: 1663, database: 5, file: 16_400 };
const path = 'base/5/16400';

/** Blocks as the map has them: the value says whether redo overwrites the page whole first. */
function mapOf(blocks: ReadonlyMap<number, boolean>, storage: readonly object[] = []): ChangeMap {
  const sorted = [...blocks].sort(([a], [b]) => a - b);
  const changes: ForkChanges = {
    relation,
    fork: 0,
    blocks: Uint32Array.from(sorted.map(([block]) => block)),
    overwrittenFirst: Uint8Array.from(sorted.map(([, left]) => (left ? 1 : 0))),
  };
  const forks = new Map(blocks.size === 0 ? [] : [[forkKey(relation, 0), changes]]);
  const events = storage.map(event => ({ lsn: 1n, xid: 0, ...event }) as StorageEvent);
  return { from: 0n, target: 1n, to: 2n, forks, storage: events, events: [] };
}

interface File {
  readonly base: number;
  readonly live: number | null;
  readonly segment?: number;
  readonly isSpGist?: boolean;
}

function workOf(map: ChangeMap, file: File): PageWork | null {
  const segment = file.segment ?? 0;
  return pageRules(map, facts).workOf({
    path: segment === 0 ? path : `${path}.${segment}`,
    baseBytes: file.base * BLOCK,
    liveBytes: file.live === null ? null : file.live * BLOCK,
    isSpGist: () => file.isSpGist ?? false,
  });
}

/** What the file holds after the rewind and before the replay, block by block: of the base, of the live file, or a hole. */
function rewound(work: PageWork, file: File): string[] {
  const live = (block: number): string => (block < (file.live ?? 0) ? 'live' : 'hole');
  if (work.kind === 'keep') return Array.from({ length: file.live ?? 0 }, (_, block) => live(block));
  const left = work.kind === 'replace' ? blocksOf(work.left) : new Set<number>();
  const fromLive = work.kind === 'replace' ? blocksOf(work.fromLive) : new Set<number>();
  const fromBase = work.kind === 'patch' ? blocksOf(work.fromBase) : null;
  return Array.from({ length: file.base }, (_, block) => {
    if (fromBase !== null) return fromBase.has(block) ? 'base' : live(block);
    if (left.has(block)) return 'hole';
    return fromLive.has(block) ? live(block) : 'base';
  });
}

describe('any map, any sizes', () => {
  const file = fc.record({
    base: fc.integer({ min: 0, max: 16 }),
    live: fc.option(fc.integer({ min: 0, max: 16 })),
    segment: fc.integer({ min: 0, max: 1 }),
    isSpGist: fc.boolean(),
  });
  const blocks = fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.boolean()), { maxLength: 25 });
  const cut = fc.option(fc.integer({ min: 0, max: 40 }));

  test('the replay finds the backup wherever it reads, and the safety copy has all that is changed', () => {
    fc.assert(
      fc.property(file, blocks, cut, (own, named, cutTo) => {
        const map = new Map(named);
        const storage =
          cutTo === null ? [] : [{ kind: 'relation truncated', relation, blocks: cutTo, forks: [0] }];
        const work = workOf(mapOf(map, storage), own)!;
        const first = own.segment * facts.relationSegmentBlocks;
        const after = rewound(work, own);
        expect(after.length).toBe(own.base);
        for (const [block, content] of after.entries()) {
          const left = map.get(first + block);
          // Unnamed, in a part of the file that was never cut: the live page is the backup's.
          const isTrusted =
            left === undefined && first + block < (cutTo ?? Infinity) && block < (own.live ?? 0);
          const needsBase = own.isSpGist && own.segment === 0 && block === 0 && map.size > 0;
          if (left !== true || needsBase) expect(content === 'base' || (isTrusted && !needsBase)).toBe(true);
          if (left === true && content === 'hole') expect(work.kind).toBe('replace');
          if (left === undefined) expect(content).not.toBe('hole');
        }
        if (work.kind !== 'patch') return;
        const changed = blocksOf(work.changed);
        for (let block = 0; block < own.live!; block += 1) {
          const isNamed = map.has(first + block);
          const isWritten = after[block] !== 'live';
          if (isNamed || isWritten) expect(changed.has(block)).toBe(true);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

test('a page whose first record overwrites it - is left; one that a record reads first comes from the backup', () => {
  const work = workOf(
    mapOf(
      new Map([
        [1, true],
        [2, false],
      ]),
    ),
    { base: 10, live: 10 },
  );
  expect(work).toEqual({
    kind: 'patch',
    fromBase: [2 * BLOCK, BLOCK],
    changed: [BLOCK, 2 * BLOCK],
    leftBytes: BLOCK,
    settledBytes: 0,
    overwrittenBytes: 0,
    settledUpTo: 0,
    zeroed: [],
  });
});

test('a relation that no record names, as long as in the backup - is not touched', () => {
  expect(workOf(mapOf(new Map()), { base: 10, live: 10 })).toEqual({ kind: 'keep' });
});

test.each([
  { kind: 'relation created', relation, fork: 0 },
  { kind: 'relation dropped', relation, outcome: 'commit' },
  { kind: 'relation dropped', relation, outcome: 'abort' },
  { kind: 'database created', database: 5, tablespace: 1663, source: null },
  { kind: 'database dropped', database: 5, tablespaces: [1663, 16_500] },
])('$kind since the backup - every page comes from the backup, also what is left otherwise', event => {
  const map = mapOf(new Map([[1, true]]), [event]);
  expect(workOf(map, { base: 10, live: 10 })).toEqual({ kind: 'replace', left: [], fromLive: [] });
});

test.each([
  { kind: 'relation created', relation: { ...relation, file: 1 }, fork: 0 },
  { kind: 'relation created', relation, fork: 3 },
  { kind: 'database dropped', database: 6, tablespaces: [1663] },
  { kind: 'database created', database: 5, tablespace: 16_500, source: null },
])('$kind of another - changes nothing', event => {
  expect(workOf(mapOf(new Map(), [event]), { base: 10, live: 10 })).toEqual({ kind: 'keep' });
});

test('the metapage of an SP-GiST index that is named - from the backup, named or left or not', () => {
  for (const named of [new Map([[7, true]]), new Map([[0, true]]), new Map([[0, false]])]) {
    const work = workOf(mapOf(named), { base: 16, live: 16, isSpGist: true });
    expect(work?.kind === 'patch' && work.fromBase.slice(0, 2)).toEqual([0, BLOCK]);
  }
  expect(workOf(mapOf(new Map()), { base: 16, live: 16, isSpGist: true })).toEqual({ kind: 'keep' });
});

test('other forks, and what is no relation - are none of its business', () => {
  const rules = pageRules(mapOf(new Map()), facts);
  for (const other of [
    'base/5/16400_fsm',
    'base/5/16400_vm',
    'base/5/16400_init',
    'pg_xact/0000',
    'base/5/PG_VERSION',
  ])
    expect(rules.workOf({ path: other, baseBytes: 1, liveBytes: 1, isSpGist: () => false })).toBeNull();
});

test('nearly every page of a file is changed - it is put aside as a whole, and the rest copied from there', () => {
  const named = new Map(Array.from({ length: 12 }, (_, block) => [block, true] as const));
  expect(workOf(mapOf(named), { base: 16, live: 16 })).toEqual({
    kind: 'replace',
    left: [0, 12 * BLOCK],
    fromLive: [12 * BLOCK, 4 * BLOCK],
  });
});
