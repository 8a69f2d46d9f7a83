import { execFile } from 'node:child_process';
import { closeSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { formatLsn } from '../../src/engines/postgres/lsn.ts';
import { createPageChecker } from '../../src/engines/postgres/page-checksum.ts';
import { pageLsn } from '../../src/engines/postgres/page-header.ts';
import { debianProgram } from '../support/debian-postgres.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const PAGE = 8192;

/** Every file of a relation, of every fork, below the data directory. */
function relationFiles(dataDirectory: string): string[] {
  return ['global', 'base'].flatMap(top =>
    readdirSync(join(dataDirectory, top), { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile() && /^\d+(_(fsm|vm|init))?$/.test(entry.name))
      .map(entry => join(entry.parentPath, entry.name)),
  );
}

/** The bad pages, as `file block`, of all files; and how many pages there are. */
function checkFiles(files: readonly string[]): { bad: string[]; pages: number } {
  const checker = createPageChecker(1 << 20);
  const bad: string[] = [];
  let pages = 0;
  for (const file of files) {
    const fd = openSync(file, 'r');
    for (let block = 0; ; ) {
      const length = readSync(fd, checker.buffer, 0, checker.buffer.length, block * PAGE);
      if (length === 0) break;
      bad.push(...checker.check(length, block).map(index => `${file} ${block + index}`));
      block += length / PAGE;
      pages += length / PAGE;
    }
    closeSync(fd);
  }
  return { bad, pages };
}

function flipBit(file: string, at: number): void {
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 0x10;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

async function fill(cluster: TestCluster): Promise<string> {
  const client = await cluster.connect();
  await client.query(`
    create table t as select g as id, repeat(md5(g::text), 4) as v from generate_series(1, 50000) g;
    create index on t (v);
    create index on t using gin (string_to_array(v, 'a'));
    delete from t where id % 3 = 0`);
  await client.query('vacuum t');
  await client.query('checkpoint');
  const { rows } = await client.query<{ path: string }>("select pg_relation_filepath('t') as path");
  await client.end();
  return join(cluster.dataDirectory, rows[0]!.path);
}

test.for([14, 15, 16, 17, 18] as const)(
  'PostgreSQL %i stopped - every page of every file is good, and a bit flipped is found',
  async version => {
    await using cluster = await startTestCluster({ version });
    const table = await fill(cluster);
    await cluster.stop('fast');
    const files = relationFiles(cluster.dataDirectory);
    const { bad, pages } = checkFiles(files);
    expect(bad).toEqual([]);
    expect(pages).toBeGreaterThan(3000);

    // LSN, checksum, line pointers, the hole, rows; the last byte of a page.
    const places = [
      [0, 3],
      [1, 8],
      [2, 30],
      [77, 400],
      [128, 8000],
      [300, 8191],
    ] as const;
    for (const [block, offset] of places) flipBit(table, block * PAGE + offset);
    expect(checkFiles(files).bad).toEqual(places.map(([block]) => `${table} ${block}`));
  },
);

test.for([14, 18] as const)(
  'PostgreSQL %i running - the checksums and LSNs that pageinspect computes',
  async version => {
    await using cluster = await startTestCluster({ version });
    await fill(cluster);
    const client = await cluster.connect();
    await client.query('create extension pageinspect');
    const { rows } = await client.query<{ block: number; page: Buffer; checksum: number; lsn: string }>(`
    select block, page, page_checksum(page, block) as checksum, lsn::text
    from generate_series(0, 300) block, get_raw_page('t', block::int) page, page_header(page)`);
    const checker = createPageChecker(PAGE);
    for (const { block, page, checksum, lsn } of rows) {
      checker.buffer.set(page);
      // SQL has no unsigned numbers.
      expect(checker.expectedChecksum(0, block)).toBe(checksum & 0xffff);
      expect(formatLsn(pageLsn(checker.buffer, 0))).toBe(lsn);
    }
    expect(rows.length).toBe(301);
  },
);

test('PostgreSQL 15, damaged - the same pages as pg_checksums finds', async context => {
  const checksums = debianProgram(context, 'pg_checksums');
  await using cluster = await startTestCluster({ version: 15 });
  const table = await fill(cluster);
  await cluster.stop('fast');
  for (const block of [5, 130, 131]) flipBit(table, block * PAGE + 5000);
  const result = await promisify(execFile)(checksums, ['--check', '-D', cluster.dataDirectory]).catch(
    (failure: { stdout: string; stderr: string }) => failure,
  );
  const theirs = [...result.stderr.matchAll(/checksum verification failed in file "(.*)", block (\d+)/g)];
  expect(theirs.map(([, file, block]) => `${file} ${block}`)).toEqual(
    checkFiles(relationFiles(cluster.dataDirectory)).bad,
  );
  expect(theirs.length).toBe(3);
});
