import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseLsn, segmentName } from '../../../src/engines/postgres/lsn.ts';
import type { PresentServer } from '../../../src/operations/backup/choose-parent.ts';
import { type FoundChanges, findChanges } from '../../../src/operations/backup/find-changes.ts';
import { openLogView } from '../../../src/operations/log/log-view.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const SEGMENT = 1024 * 1024;
const systemIdentifier = '7566129433051829306';
const instance = 'production';
const STARTED = '2025-10-27T10:00:00.000000Z';

/** Segment `n` of a log; `other`: of another server that goes on under the same names. */
const bytesOf = (n: number, other = false): Uint8Array => new Uint8Array(SEGMENT).fill(other ? 100 + n : n);
const nameOf = (n: number): string => segmentName(1, BigInt(n * SEGMENT), SEGMENT);

/** A parent that began in segment 32, a server in segment 36; which segments are archived, and which are in pg_wal. */
async function ask(situation: {
  readonly archived: readonly number[];
  readonly live: readonly number[];
  /** Segments in pg_wal that are not those of the archive. */
  readonly other?: readonly number[];
  readonly restarted?: boolean;
  readonly server?: Partial<PresentServer>;
}): Promise<FoundChanges> {
  await using directory = await temporaryDirectory();
  const repository = memoryRepository();
  const { backup: parent } = await writeBackup(repository, [], {
    facts: { instance, startLsn: '0/2000028', stopLsn: '0/2000120', serverStartTime: STARTED },
  });
  const owner = { instance, systemIdentifier };
  for (const n of situation.archived)
    await putLogFile(repository, { ...owner, name: nameOf(n), bytes: bytesOf(n), level: 1 });
  await mkdir(join(directory.path, 'pg_wal'));
  for (const n of situation.live)
    await writeFile(
      join(directory.path, 'pg_wal', nameOf(n)),
      bytesOf(n, situation.other?.includes(n) === true),
    );
  const server: PresentServer = {
    systemIdentifier,
    timeline: 1,
    startTime: situation.restarted === true ? '2025-10-27T15:00:00.000000Z' : STARTED,
    blockSize: 8192,
    relationSegmentBlocks: 131_072,
    walSegmentSize: SEGMENT,
    tablespaceVersionDirectory: 'PG_18_202506291',
    dataChecksums: true,
    walLogHints: false,
    lsn: parseLsn('0/2400028'),
    ...situation.server,
  };
  const signal = AbortSignal.timeout(60_000);
  const source = { owner, segmentSize: SEGMENT, timeline: 1, backupTimelines: [1] };
  const view = await openLogView(repository, source, signal);
  return await findChanges({ repository }, { parent, server, dataDirectory: directory.path, view }, signal);
}

test('a segment that is nowhere, on a server that ran on - by the positions of pages, from the start of the parent', async () => {
  const found = await ask({ archived: [32, 33, 35], live: [35, 36] });
  expect(found).toMatchObject({
    changes: { by: 'page position', sinceLsn: parseLsn('0/2000028') },
    why: `the log is not complete: segment ${nameOf(34)} is neither archived nor in pg_wal`,
  });
});

test('the same without checksums - a full backup; with wal_log_hints by the positions of pages', async () => {
  const situation = { archived: [32], live: [36] };
  const bare = await ask({ ...situation, server: { dataChecksums: false } });
  expect([bare.changes, bare.why]).toEqual([null, expect.stringContaining('wal_log_hints are off')]);
  const hints = await ask({ ...situation, server: { dataChecksums: false, walLogHints: true } });
  expect(hints.changes?.by).toBe('page position');
});

test('the same after a restart - a full backup', async () => {
  const found = await ask({ archived: [32], live: [36], restarted: true });
  expect([found.changes, found.why]).toEqual([null, expect.stringContaining('started again since backup')]);
});

test('a server started again whose log is not the archived one - a full backup, whatever the archive has', async () => {
  const found = await ask({
    archived: [32, 33, 34, 35, 36],
    live: [35, 36],
    other: [35, 36],
    restarted: true,
  });
  expect([found.changes, found.why]).toEqual([
    null,
    expect.stringContaining(`segment ${nameOf(36)} of the server's log is not the one that is archived`),
  ]);
});

test('the same of a server that was not started again, as of a machine that went back with its memory - a full backup too', async () => {
  const complete = await ask({ archived: [32, 33, 34, 35, 36], live: [35, 36], other: [36] });
  const holes = await ask({ archived: [32, 35, 36], live: [36], other: [36] });
  for (const found of [complete, holes])
    expect([found.changes, found.why]).toEqual([
      null,
      expect.stringContaining('not the one that is archived'),
    ]);
});

test('a server started again of whose log nothing is archived - a full backup, as nothing shows that it is the one', async () => {
  const found = await ask({ archived: [], live: [32, 33, 34, 35, 36], restarted: true });
  expect([found.changes, found.why]).toEqual([null, expect.stringContaining('no segment of the log shows')]);
});

test('a log that cannot be read, on a server that ran on - by the positions of pages; after a restart a full backup', async () => {
  const situation = { archived: [32, 33, 34, 35], live: [35, 36] };
  const found = await ask(situation);
  expect([found.changes?.by, found.why]).toEqual(['page position', expect.stringContaining('not complete')]);
  expect((await ask({ ...situation, restarted: true })).changes).toBeNull();
});
