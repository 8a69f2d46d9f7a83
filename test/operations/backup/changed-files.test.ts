import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type ChangeMap, forkKey } from '../../../src/engines/postgres/change-map.ts';
import type { DataFileEntry } from '../../../src/engines/postgres/data-files.ts';
import { relationOf } from '../../../src/engines/postgres/data-files-names.ts';
import type { StorageEvent } from '../../../src/engines/postgres/wal-storage.ts';
import type { RelationFile } from '../../../src/engines/postgres/wal-transactions.ts';
import { type Changes, changedFiles } from '../../../src/operations/backup/changed-files.ts';
import type { SourceFile } from '../../../src/operations/backup/file-assembler.ts';
import { ChunkListBuilder } from '../../../src/repository/chunk-list.ts';
import type { PackedFileLine } from '../../../src/repository/manifest-line.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const MIB = 1024 * 1024;
const BLOCK = 8192;
const SEGMENT_BLOCKS = 131_072;
const VERSION = 'PG_18_202506291';

/** A file of the parent, as a full backup has it. */
function lineOf(path: string, sizeBytes: number, hash: string): PackedFileLine {
  const chunks = new ChunkListBuilder();
  for (let at = 0; at < sizeBytes; at += MIB) {
    const raw = Math.min(MIB, sizeBytes - at);
    chunks.add([raw, 0, at / MIB, 40, raw, raw, 0, hash]);
  }
  return { t: 'file', p: path, s: sizeBytes, m: 0o600, chunks: chunks.list() };
}

const table: RelationFile = { tablespace: 1663, database: 5, file: 16_384 };

function byLog(
  named: readonly [RelationFile, readonly number[]][],
  storage: readonly StorageEvent[] = [],
): Changes {
  const forks = new Map<string, ChangeMap['forks'] extends ReadonlyMap<string, infer F> ? F : never>();
  for (const [relation, blocks] of named)
    forks.set(forkKey(relation, 0), {
      relation,
      fork: 0,
      blocks: Uint32Array.from(blocks),
      overwrittenFirst: new Uint8Array(blocks.length),
    });
  return { by: 'log', map: { from: 1n, target: null, to: 2n, forks, storage, events: [] } };
}

/** What is to be read of a file of `sizeBytes`, of which the parent has `parentBytes`; null: all of it, anew. */
async function ask(
  changes: Changes,
  file: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly parentBytes?: number;
    readonly hash?: string;
  },
): Promise<SourceFile['changes'] | null> {
  const { path, sizeBytes, parentBytes = sizeBytes, hash = '' } = file;
  const changesOf = changedFiles({
    changes,
    parent: {
      find: asked => (asked === path && parentBytes >= 0 ? lineOf(path, parentBytes, hash) : null),
    },
    blockSize: BLOCK,
    relationSegmentBlocks: SEGMENT_BLOCKS,
  });
  const relation = relationOf(path, SEGMENT_BLOCKS);
  const entry: DataFileEntry = {
    kind: 'file',
    path,
    source: `/data/${path}`,
    sizeBytes,
    mode: 0o600,
    relation,
  };
  const source = {
    path,
    source: entry.source,
    sizeBytes,
    mode: 0o600,
    firstBlock: relation?.firstBlock ?? null,
  };
  return (await changesOf(entry, source)).changes ?? null;
}

const pagesOf = (changes: SourceFile['changes'] | null): number[] =>
  (changes?.parts ?? []).flatMap(({ selection }) => {
    if (selection.kind !== 'ranges') throw new Error(selection.kind);
    const pages: number[] = [];
    for (let index = 0; index < selection.ranges.length; index += 2) {
      const from = selection.ranges[index]! / BLOCK;
      for (let page = 0; page < selection.ranges[index + 1]! / BLOCK; page += 1) pages.push(from + page);
    }
    return pages;
  });

test('pages named by the log - of the right file of a relation, and its first page', async () => {
  const changes = byLog([[table, [3, 131_071, 131_072, 131_080]]]);
  const file = { path: 'base/5/16384', sizeBytes: SEGMENT_BLOCKS * BLOCK };
  expect(pagesOf(await ask(changes, file))).toEqual([0, 3, 131_071]);
  expect(pagesOf(await ask(changes, { path: 'base/5/16384.1', sizeBytes: 100 * BLOCK }))).toEqual([0, 8]);
  expect(pagesOf(await ask(changes, { path: 'base/5/16384.2', sizeBytes: 100 * BLOCK }))).toEqual([]);
  for (const path of ['base/5/16385', 'base/6/16384', 'global/16384', `pg_tblspc/9/${VERSION}/5/16384`])
    expect(pagesOf(await ask(changes, { path, sizeBytes: 9 * BLOCK }))).toEqual([]);
});

test('relations in a tablespace and shared ones - are those that the log names', async () => {
  const moved = { tablespace: 9, database: 5, file: 16_384 };
  const shared = { tablespace: 1664, database: 0, file: 1260 };
  const changes = byLog([
    [moved, [2]],
    [shared, [1]],
  ]);
  const inTablespace = { path: `pg_tblspc/9/${VERSION}/5/16384`, sizeBytes: 9 * BLOCK };
  expect(pagesOf(await ask(changes, inTablespace))).toEqual([0, 2]);
  expect(pagesOf(await ask(changes, { path: 'global/1260', sizeBytes: 9 * BLOCK }))).toEqual([0, 1]);
});

test.for([
  ['created', { kind: 'relation created', relation: table, fork: 0 }],
  ['dropped', { kind: 'relation dropped', relation: table, outcome: 'commit' }],
  [
    'in a database that was copied',
    { kind: 'database created', database: 5, tablespace: 1663, source: null },
  ],
  ['in a database that was dropped', { kind: 'database dropped', database: 5, tablespaces: [1663] }],
  ['in a new tablespace', { kind: 'tablespace created', tablespace: 1663, path: '/x' }],
] as const)(
  'a relation that was %s since the parent - is copied whole, whatever the parent has',
  async ([, event]) => {
    const changes = byLog([], [{ lsn: 1n, xid: 1, ...event }]);
    expect(await ask(changes, { path: 'base/5/16384', sizeBytes: 9 * BLOCK })).toBeNull();
    const other = `pg_tblspc/9/${VERSION}/7/16384`;
    expect(pagesOf(await ask(changes, { path: other, sizeBytes: 9 * BLOCK }))).toEqual([]);
  },
);

test('a relation that was cut - is read from there on, in all of its files', async () => {
  const cut = (blocks: number, forks: number[]): Changes =>
    byLog([], [{ lsn: 1n, xid: 0, kind: 'relation truncated', relation: table, blocks, forks }]);
  const file = { path: 'base/5/16384', sizeBytes: 9 * BLOCK, parentBytes: 20 * BLOCK };
  expect(pagesOf(await ask(cut(6, [0]), file))).toEqual([6, 7, 8]);
  expect(pagesOf(await ask(cut(6, [2]), file))).toEqual([]);
  const second = { path: 'base/5/16384.1', sizeBytes: 2 * BLOCK };
  expect(pagesOf(await ask(cut(6, [0]), second))).toEqual([0, 1]);
  expect(pagesOf(await ask(cut(131_073, [0]), second))).toEqual([1]);
  expect(pagesOf(await ask(cut(131_073, [0]), file))).toEqual([]);
});

test('a file that the parent has not - is copied whole', async () => {
  for (const path of ['base/5/16384', 'base/5/16384_fsm', 'pg_xact/0001'])
    expect(await ask(byLog([]), { path, sizeBytes: 9 * BLOCK, parentBytes: -1 })).toBeNull();
});

test('forks and files that are not in the log page by page - are compared by what they hold', async () => {
  for (const path of ['base/5/16384_fsm', 'base/5/16384_vm', 'pg_xact/0001', 'base/5/pg_filenode.map']) {
    const changes = await ask(byLog([[table, [1]]]), { path, sizeBytes: MIB + 5, hash: 'H' });
    expect(changes?.parts).toEqual([
      { offset: 0, length: MIB + 5, selection: { kind: 'content', hashes: ['H', 'H'] } },
    ]);
    const longer = await ask(byLog([]), { path, sizeBytes: MIB + 5, parentBytes: MIB + 4, hash: 'H' });
    expect(longer?.parts[0]?.selection).toEqual({ kind: 'content', hashes: ['H', null] });
    const unhashed = await ask(byLog([]), { path, sizeBytes: 5, hash: '' });
    expect(unhashed?.parts[0]?.selection).toEqual({ kind: 'content', hashes: [null] });
  }
});

test('by the position of pages - every file is read, but those of a database made since are copied whole', async () => {
  await using directory = await temporaryDirectory();
  const changes: Changes = { by: 'page position', sinceLsn: 77n, sinceMs: Date.now() - 60_000 };
  const changed = await ask(changes, { path: 'base/5/16384', sizeBytes: 40 * MIB });
  expect(changed?.parts.map(each => [each.offset, each.length, each.selection.kind])).toEqual([
    [0, 32 * MIB, 'since'],
    [32 * MIB, 8 * MIB, 'since'],
  ]);
  const changesOf = changedFiles({
    changes,
    parent: { find: path => lineOf(path, BLOCK, '') },
    blockSize: BLOCK,
    relationSegmentBlocks: SEGMENT_BLOCKS,
  });
  for (const [database, seconds] of [
    ['6', Date.now() / 1000],
    ['7', Date.now() / 1000 - 3600],
  ] as const) {
    await mkdir(join(directory.path, database));
    await writeFile(join(directory.path, database, 'PG_VERSION'), '18\n');
    await utimes(join(directory.path, database, 'PG_VERSION'), seconds, seconds);
    const path = `base/${database}/16384`;
    const source = join(directory.path, database, '16384');
    const relation = relationOf(path, SEGMENT_BLOCKS);
    const entry: DataFileEntry = { kind: 'file', path, source, sizeBytes: BLOCK, mode: 0o600, relation };
    const file = await changesOf(entry, { path, source, sizeBytes: BLOCK, mode: 0o600, firstBlock: 0 });
    expect([database, file.changes === undefined]).toEqual([database, database === '6']);
  }
});
