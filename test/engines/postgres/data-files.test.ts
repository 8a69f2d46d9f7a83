import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DataEntry, listDataFiles } from '../../../src/engines/postgres/data-files.ts';
import { parseRelationFile, relationOf } from '../../../src/engines/postgres/data-files-names.ts';

const options = { tablespaceVersionDirectory: 'PG_18_1', relationSegmentBlocks: 131_072 };
let root = '';
let data = '';

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aishell-test-'));
  data = join(root, 'data');
  await mkdir(data);
});
afterEach(async () => await rm(root, { recursive: true }));

async function make(...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await mkdir(join(data, dirname(path)), { recursive: true });
    await writeFile(join(data, path), 'x');
  }
}

async function list(more: { logDirectory?: string } = {}): Promise<DataEntry[]> {
  return await collect(listDataFiles(data, { ...options, ...more }));
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const paths = (entries: readonly DataEntry[]): string[] => entries.map(entry => entry.path).sort();

test('what the server makes anew - is left out, its directories stay', async () => {
  await make(
    'PG_VERSION',
    'postgresql.auto.conf',
    'postgresql.auto.conf.tmp',
    'postmaster.pid',
    'postmaster.opts',
    'backup_label',
    'backup_label.old',
    'tablespace_map',
    'backup_manifest',
    'current_logfiles',
    'recovery.signal',
    'standby.signal',
    'aishell-recovery.log',
    'global/pg_control',
    'global/1262',
    'global/pg_internal.init',
    'global/pg_internal.init.77',
    'pg_wal/000000010000000000000001',
    'pg_replslot/s/state',
    'pg_stat_tmp/x',
    'pg_notify/0000',
    'base/pgsql_tmp/pgsql_tmp1.0',
    'pg_xact/0000',
    'base/1/PG_VERSION',
  );
  expect(paths(await list())).toEqual([
    'PG_VERSION',
    'base',
    'base/1',
    'base/1/PG_VERSION',
    'global',
    'global/1262',
    'pg_notify',
    'pg_replslot',
    'pg_stat_tmp',
    'pg_wal',
    'pg_wal/archive_status',
    'pg_xact',
    'pg_xact/0000',
    'postgresql.auto.conf',
  ]);
});

test('unlogged and temporary relations - only the empty fork of the unlogged is kept', async () => {
  await make(
    'base/5/16384',
    'base/5/16384.1',
    'base/5/16384_fsm',
    'base/5/16384_vm',
    'base/5/16384_init',
    'base/5/163840',
    'base/5/t3_16390',
    'base/5/t3_16390_fsm',
    'base/5/t3_16390.1',
    'base/5/t3',
  );
  expect(paths(await list())).toEqual(['base', 'base/5', 'base/5/163840', 'base/5/16384_init', 'base/5/t3']);
});

test('a tablespace - is followed under its link, this version alone; one inside the data directory is listed once', async () => {
  await make('ts/PG_18_1/5/16400', 'ts/PG_17_1/5/16400', 'inner/PG_18_1/5/16401', 'pg_tblspc/x/y');
  await rm(join(data, 'pg_tblspc/x'), { recursive: true });
  await symlink(join(data, 'ts'), join(data, 'pg_tblspc/16390'));
  await symlink(join(data, 'inner'), join(data, 'pg_tblspc/16391'));
  const entries = await list();
  expect(paths(entries)).toEqual([
    'pg_tblspc',
    'pg_tblspc/16390/PG_18_1',
    'pg_tblspc/16390/PG_18_1/5',
    'pg_tblspc/16390/PG_18_1/5/16400',
    'pg_tblspc/16391/PG_18_1',
    'pg_tblspc/16391/PG_18_1/5',
    'pg_tblspc/16391/PG_18_1/5/16401',
  ]);
  expect(entries.find(entry => entry.path.endsWith('16400'))).toMatchObject({
    kind: 'file',
    source: join(data, 'pg_tblspc/16390/PG_18_1/5/16400'),
    relation: { fork: 'main', firstBlock: 0 },
  });
});

test('pg_wal elsewhere - is an empty directory; a link to a setting - is the file; any other link - is told of, not followed', async () => {
  await mkdir(join(root, 'wal'));
  await writeFile(join(root, 'wal/000000010000000000000001'), 'x');
  await writeFile(join(root, 'key'), 'secret');
  await symlink(join(root, 'wal'), join(data, 'pg_wal'));
  await symlink(join(root, 'key'), join(data, 'server.key'));
  await symlink(join(root, 'wal'), join(data, 'more'));
  await make('base/1/1259');
  await symlink(join(root, 'key'), join(data, 'base/1/1260'));
  const entries = await list();
  expect(paths(entries)).toEqual([
    'base',
    'base/1',
    'base/1/1259',
    'base/1/1260',
    'more',
    'pg_wal',
    'pg_wal/archive_status',
    'server.key',
  ]);
  const found = (path: string): unknown => entries.find(entry => entry.path === path);
  expect(found('server.key')).toMatchObject({ kind: 'file', sizeBytes: 6 });
  const passed = { kind: 'passed over', isDatabase: false, why: expect.stringContaining(join(root, 'wal')) };
  expect(found('more')).toMatchObject(passed);
  expect(found('base/1/1260')).toMatchObject({ kind: 'passed over', isDatabase: true });
});

test('the log directory - is kept without its content, unless that would leave out the database', async () => {
  await make('log/a.log', 'base/1/1259');
  expect(paths(await list({ logDirectory: 'log' }))).toEqual(['base', 'base/1', 'base/1/1259', 'log']);
  expect(paths(await list({ logDirectory: join(data, 'log') }))).not.toContain('log/a.log');
  for (const logDirectory of ['.', 'base', 'base/1', '/var/log', '..', data]) {
    expect(paths(await list({ logDirectory }))).toContain('base/1/1259');
  }
});

test('a socket in the data directory - is no part of a backup', async () => {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(join(data, '.s.PGSQL.1'), resolve));
  await make('PG_VERSION');
  expect(paths(await list())).toEqual(['PG_VERSION']);
  server.close();
});

test('a file that vanishes during the walk - is passed over; an aborted signal - ends it', async () => {
  await make('a', 'base/1/1', 'base/1/2');
  const seen: string[] = [];
  for await (const entry of listDataFiles(data, options)) {
    seen.push(entry.path);
    await rm(join(data, 'base/1'), { recursive: true, force: true });
  }
  expect(seen).toEqual(['a', 'base']);
  await make('b');
  await expect(
    collect(listDataFiles(data, { ...options, signal: AbortSignal.abort(new Error('stop')) })),
  ).rejects.toThrow('stop');
});

test('names of relation files - fork, segment and first block', () => {
  expect(parseRelationFile('16384_fsm.2')).toEqual({ node: '16384', fork: 'fsm', segmentNumber: 2 });
  for (const name of [
    '016384',
    '16384.0',
    '16384_xx',
    '16384.',
    'x16384',
    '16384_vm_init',
    'pg_filenode.map',
  ]) {
    expect(parseRelationFile(name)).toBeNull();
  }
  expect(relationOf('base/5/16384.2', 131_072)).toEqual({
    segmentNumber: 2,
    fork: 'main',
    firstBlock: 262_144,
  });
  expect(relationOf('global/1262_vm', 131_072)).toEqual({ segmentNumber: 0, fork: 'vm', firstBlock: 0 });
  expect(relationOf('pg_xact/0000', 131_072)).toBeNull();
  expect(relationOf('pg_multixact/offsets/1234', 131_072)).toBeNull();
  expect(relationOf('1234', 131_072)).toBeNull();
});
