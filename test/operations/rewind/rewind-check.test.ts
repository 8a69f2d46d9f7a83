import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type ChangeMap, forkKey } from '../../../src/engines/postgres/change-map.ts';
import type { WalEvent } from '../../../src/engines/postgres/wal-events.ts';
import type { StorageEvent } from '../../../src/engines/postgres/wal-storage.ts';
import { decodeRequest, encodeRequest } from '../../../src/operations/rewind/encode-request.ts';
import { findPlaces } from '../../../src/operations/rewind/places.ts';
import { whyNotTheseFiles, whyNotThisLog } from '../../../src/operations/rewind/rewind-check.ts';
import { wasReadBehind } from '../../../src/operations/rewind/rewind-log.ts';
import {
  readSavedState,
  type SavedState,
  writeSavedState,
} from '../../../src/operations/rewind/saved-state.ts';
import { listServerFiles } from '../../../src/operations/rewind/server-files.ts';
import { temporaryDirectory } from '../../support/temp.ts';

function mapWith(storage: readonly object[], events: readonly object[] = []): ChangeMap {
  return {
    ...{ from: 1n, target: 2n, to: 9n, forks: new Map() },
    storage: storage.map(event => ({ lsn: 5n, xid: 0, ...event }) as unknown as StorageEvent),
    events: events.map(event => ({ lsn: 5n, endLsn: 6n, ...event }) as unknown as WalEvent),
  };
}

const settings = { kind: 'parameter change', walLevel: 'replica', walLogHints: true };

test.each([
  [[{ kind: 'tablespace created', tablespace: 5, path: '/x' }], [], true, /tablespace was created/],
  [[{ kind: 'tablespace dropped', tablespace: 5 }], [], true, /tablespace was dropped/],
  [[{ kind: 'unknown', rmgr: 130 }], [], true, /resource manager 130/],
  [[], [{ ...settings, walLevel: 'minimal' }], true, /wal_level was minimal/],
  [[], [{ ...settings, walLevel: 'unknown' }], true, /wal_level was minimal/],
  [[], [settings], false, /wal_log_hints perhaps/],
] as const)('%j and %j, checksums %j - no rewind', (storage, events, checksums, reason) => {
  const map = mapWith(storage, events);
  expect(whyNotThisLog(map, map.events, { checksums })).toMatch(reason);
});

test.each([
  [[{ kind: 'database dropped', database: 5, tablespaces: [1663] }], [settings], true],
  // Our own recoveries begin a timeline so.
  [[], [{ kind: 'full page writes', on: false }], true],
  [[], [{ kind: 'full page writes', on: false }], false],
] as const)('%j and %j, checksums %j - a rewind is possible', (storage, events, checksums) => {
  const map = mapWith(storage, events);
  expect(whyNotThisLog(map, map.events, { checksums })).toBeNull();
});

test.each([
  ['1\t0/5000000\tno recovery target specified\n', 0x4ffffffn, true],
  ['1\t0/5000000\tno recovery target specified\n', 0x5000000n, false],
  // Our own recoveries, which nobody reads in.
  ['1\t0/5000000\tbefore LSN 0/5000000\n\n', 0x4000000n, false],
  ['1\t0/5000000\tbefore LSN 0/5000000\n\n\n2\t0/6000000\tno recovery target specified\n', 0x4000000n, true],
  ['1\t0/5000000\tbefore 2026-11-30 10:00:00+00\n', 0x4000000n, true],
  ['1\t0/5000000\treached consistency\n', 0x4000000n, true],
  ['', 0n, false],
] as const)(
  'history %j - whether a recovery that people may have read in ended behind %s: %s',
  (history, lsn, expected) => {
    expect(wasReadBehind(history, lsn)).toBe(expected);
  },
);

test('a database moved elsewhere and linked - no rewind, which would not see its files', async () => {
  await using root = await temporaryDirectory();
  for (const path of ['base/5', 'elsewhere', 'pg_wal'])
    await mkdir(join(root.path, path), { recursive: true });
  const places = await findPlaces(root.path, 'now');
  expect(whyNotTheseFiles(listServerFiles(places, 'PG_18_202506291'))).toBeNull();
  await symlink(join(root.path, 'elsewhere'), join(root.path, 'base/16384'));
  expect(whyNotTheseFiles(listServerFiles(places, 'PG_18_202506291'))).toMatch("'base/16384'");
});

test('what a rewind is decided by - is read as it was written, or not at all', async () => {
  await using root = await temporaryDirectory();
  const relation = { tablespace: 1663, database: 5, file: 16_400 };
  const blocks = Uint32Array.from([0, 7, 4_294_967_294]);
  const state: SavedState = {
    live: {
      files: new Map([['base/5/16400', { sizeBytes: 2 ** 30, mode: 0o600 }]]),
      directories: new Map([['base/5', { mode: 0o700 }]]),
      links: [],
    },
    log: { files: new Map(), directories: new Map([['pg_wal', { mode: 0o750 }]]), links: [] },
    spGist: new Set(['base/5/16401']),
    keepingCosts: 1,
    settling: null,
    map: {
      ...mapWith([{ kind: 'relation truncated', relation, blocks: 3, forks: [0, 1] }]),
      forks: new Map([
        [forkKey(relation, 0), { relation, fork: 0, blocks, overwrittenFirst: Uint8Array.from([1, 0, 1]) }],
      ]),
      ...{ from: 2n ** 60n, to: 2n ** 61n, target: null },
    },
  };
  await writeSavedState(root.path, state);
  expect(await readSavedState(root.path)).toEqual(state);
  const file = join(root.path, 'state.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('16401', '16402'));
  await expect(readSavedState(root.path)).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('a request - is equal to itself after it was written down, and to no other', () => {
  const request = { target: { kind: 'time', timeUs: 1_761_573_599_000_000n }, timeline: 3 } as const;
  expect(decodeRequest(encodeRequest(request))).toEqual(request);
  expect(encodeRequest({ ...request, timeline: 4 })).not.toBe(encodeRequest(request));
});
