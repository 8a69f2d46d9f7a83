import { readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type CliResult, runCli } from '../support/cli.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const SEGMENT_BYTES = 1024 * 1024;

let cluster: TestCluster;
let instance: TestInstance;
let log: string;
let notes: string;
/** The segments of the queue, in order. */
let queue: string[];

/** A queue of segments that nobody archives: archive_command fails until a test does its work. */
beforeAll(async () => {
  cluster = await startTestCluster({
    version: 18,
    walSegmentSizeMb: 1,
    settings: { archive_mode: 'on', archive_command: 'exit 1', wal_keep_size: '200MB' },
  });
  instance = await protect(cluster, { archiving: false });
  await cluster.query('create table noise (content bytea)');
  for (let part = 0; part < 10; part += 1) {
    await cluster.query(
      "insert into noise select string_agg(sha512((random() * 1e9)::text::bytea), '') from generate_series(1, 20000)",
    );
    await cluster.query('select pg_switch_wal()');
  }
  log = join(cluster.dataDirectory, 'pg_wal');
  notes = join(inject('harness').home, '.cache', 'aishell', 'archived');
  queue = (await readdir(join(log, 'archive_status')))
    .filter(name => /^[0-9A-F]{24}\.ready$/.test(name))
    .map(name => name.slice(0, 24))
    .sort();
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** What archive_command runs for a segment; with a Node that is not there where none may be needed. */
async function archive(
  segment: string,
  options: {
    readonly config?: string;
    readonly withoutNode?: boolean;
    readonly summarizes?: boolean;
  } = {},
): Promise<CliResult> {
  const config = options.config ?? instance.configFile;
  return await runCli(['--config', config, 'backup', 'wal-archive', join(log, segment)], {
    env: {
      ...(options.withoutNode === true ? { AISHELL_NODE: '/nowhere/node' } : {}),
      ...(options.summarizes === true ? { AISHELL_SUMMARIES: 'now' } : {}),
    },
  });
}

const needsNode = { exitCode: 2, stderr: expect.stringContaining("there is no program '/nowhere/node'") };

async function archived(): Promise<string[]> {
  return (await instance.archivedLog()).filter(name => /^[0-9A-F]{24}$/.test(name));
}

test('a segment with a queue behind it - all of that is archived beside it, and its own calls need no Node', async () => {
  expect(queue.length).toBeGreaterThanOrEqual(10);
  const [first, ...behind] = queue;
  expect(await archive(first!)).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
  expect(await archived()).toEqual(queue);
  for (const segment of behind)
    expect(await archive(segment, { withoutNode: true }), segment).toMatchObject({ exitCode: 0, stderr: '' });
  // It has no note of its own: nobody had archived it before its call.
  expect(await archive(first!, { withoutNode: true })).toMatchObject(needsNode);
});

test('what is archived has summaries a little later - made by a process that nobody waits for', async () => {
  const summaries = join(instance.repository, 'instances', 'shop', 'summaries');
  const summarized = async (): Promise<string[]> =>
    (await readdir(summaries, { recursive: true }).catch(() => []))
      .map(name => basename(name))
      .filter(name => /^[0-9A-F]{24}$/.test(name))
      .sort();
  expect(await summarized()).toEqual([]);
  // Each call finds the process that the first one has started, or the one after it.
  for (const segment of queue.slice(0, 3))
    expect(await archive(segment, { summarizes: true })).toMatchObject({ exitCode: 0 });
  await expect.poll(summarized, { timeout: 60_000 }).toEqual(queue);
});

test('a segment that was written to since - its note does not count, and other bytes are refused', async () => {
  const segment = queue[3]!;
  const path = join(log, segment);
  const { mtime, atime } = await stat(path);
  const bytes = await readFile(path);
  const changed = Buffer.from(bytes);
  changed[SEGMENT_BYTES - 100] = 1 + changed[SEGMENT_BYTES - 100]!;
  await writeFile(path, changed);
  // Whoever puts the time back cannot put that of the change back.
  await utimes(path, atime, mtime);
  expect(await archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  expect(await archive(segment)).toMatchObject({ exitCode: 7 });
  await writeFile(path, bytes);
  expect(await archive(segment)).toMatchObject({ exitCode: 0 });
});

test('another configuration, the same one changed, a restored copy, a note that is too old - Node is started', async () => {
  const segment = queue[5]!;
  expect(await archive(segment, { withoutNode: true })).toMatchObject({ exitCode: 0 });
  const other = instance.path('other.yaml');
  await writeFile(other, await readFile(instance.configFile), { mode: 0o644 });
  expect(await archive(segment, { config: other, withoutNode: true })).toMatchObject(needsNode);

  const marker = join(cluster.dataDirectory, 'aishell-copy.json');
  await writeFile(marker, '{}');
  expect(await archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await rm(marker);

  const note = join(notes, segment);
  const lines = (await readFile(note, 'utf8')).split('\n');
  const aside = `${note}.aside`;
  await rename(note, aside);
  await writeFile(note, [...lines.slice(0, 3), String(Math.floor(Date.now() / 1000) - 1), ''].join('\n'));
  expect(await archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await rename(aside, note);

  const text = await readFile(instance.configFile, 'utf8');
  await writeFile(instance.configFile, `${text}# one line more\n`);
  expect(await archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await writeFile(instance.configFile, text);
});

test('something in the queue cannot be archived - the segment itself is, and the other one says why in its own call', async () => {
  const [first, second] = [queue[0]!, queue[1]!];
  await rm(notes, { recursive: true, force: true });
  await rm(join(instance.repository, 'instances', instance.name, 'log'), { recursive: true, force: true });
  const path = join(log, second);
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, 1000));
  expect(await archive(first)).toMatchObject({ exitCode: 0, stderr: '' });
  expect(await archived()).toContain(first);
  expect(await archived()).not.toContain(second);
  expect(await archive(second)).toMatchObject({
    exitCode: 9,
    stderr: expect.stringContaining('not a whole log segment'),
  });
  await writeFile(path, bytes);
});

test('the server archives a queue itself - everything arrives, once', async () => {
  await rm(join(instance.repository, 'instances', instance.name, 'log'), { recursive: true, force: true });
  await rm(notes, { recursive: true, force: true });
  for (const statement of instance.init.archiveSql.filter(each => /archive_command/.test(each)))
    await cluster.query(statement);
  await cluster.query('select pg_reload_conf()');
  await expect.poll(archived, { timeout: 60_000 }).toEqual(expect.arrayContaining(queue));
  const waiting = async (): Promise<string[]> =>
    (await readdir(join(log, 'archive_status'))).filter(name => name.endsWith('.ready'));
  await expect.poll(waiting, { timeout: 60_000 }).toEqual([]);
});
