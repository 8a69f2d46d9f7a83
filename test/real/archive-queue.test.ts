import { readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CliResult, runCli } from '../support/cli.ts';
import { type LogQueue, NEEDS_NODE, startLogQueue } from '../support/log-queue.ts';

const SEGMENT_BYTES = 1024 * 1024;

let queue: LogQueue;

beforeAll(async () => {
  queue = await startLogQueue();
});

afterAll(async () => {
  await queue?.[Symbol.asyncDispose]();
});

const needsNode = { exitCode: NEEDS_NODE.exitCode, stderr: expect.stringContaining(NEEDS_NODE.message) };

test('a segment with a queue behind it - the calls for that wait for a process that archives it, and need no Node', async () => {
  expect(queue.segments.length).toBeGreaterThanOrEqual(10);
  const [first, ...behind] = queue.segments;
  expect(await queue.archive(first!)).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
  for (const segment of behind) {
    const done = await queue.archive(segment, { withoutNode: true });
    expect(done, segment).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await queue.archivedAs(segment)).toBe('whole');
  }
  expect(await queue.archived()).toEqual(queue.segments);
  // It has no note of its own: nobody had archived it before its call.
  expect(await queue.archive(first!, { withoutNode: true })).toMatchObject(needsNode);
});

test('what is archived has summaries a little later - made by a process that nobody waits for', async () => {
  const summaries = join(queue.instance.repository, 'instances', 'shop', 'summaries');
  const summarized = async (): Promise<string[]> =>
    (await readdir(summaries, { recursive: true }).catch(() => []))
      .map(name => basename(name))
      .filter(name => /^[0-9A-F]{24}$/.test(name))
      .sort();
  expect(await summarized()).toEqual([]);
  // Each call finds the process that the first one has started, or the one after it.
  for (const segment of queue.segments.slice(0, 3))
    expect(await queue.archive(segment, { env: { AISHELL_SUMMARIES: 'now' } })).toMatchObject({
      exitCode: 0,
    });
  await expect.poll(summarized, { timeout: 60_000 }).toEqual(queue.segments);
});

test('a segment that was written to since - its note does not count, and other bytes are refused', async () => {
  const segment = queue.segments[3]!;
  const path = join(queue.log, segment);
  const { mtime, atime } = await stat(path);
  const bytes = await readFile(path);
  const changed = Buffer.from(bytes);
  changed[SEGMENT_BYTES - 100] = 1 + changed[SEGMENT_BYTES - 100]!;
  await writeFile(path, changed);
  // Whoever puts the time back cannot put that of the change back.
  await utimes(path, atime, mtime);
  expect(await queue.archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  expect(await queue.archive(segment)).toMatchObject({ exitCode: 7 });
  await writeFile(path, bytes);
  expect(await queue.archive(segment)).toMatchObject({ exitCode: 0 });
});

test('another configuration, the same one changed, a restored copy, a note that is too old - Node is started', async () => {
  const segment = queue.segments[5]!;
  expect(await queue.archive(segment, { withoutNode: true })).toMatchObject({ exitCode: 0 });
  const other = queue.instance.path('other.yaml');
  await writeFile(other, await readFile(queue.instance.configFile), { mode: 0o644 });
  expect(await queue.archive(segment, { config: other, withoutNode: true })).toMatchObject(needsNode);

  const marker = join(queue.cluster.dataDirectory, 'aishell-copy.json');
  await writeFile(marker, '{}');
  expect(await queue.archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await rm(marker);

  const note = join(queue.notes, segment);
  const lines = (await readFile(note, 'utf8')).split('\n');
  const aside = `${note}.aside`;
  await rename(note, aside);
  await writeFile(note, [...lines.slice(0, 3), String(Math.floor(Date.now() / 1000) - 1), ''].join('\n'));
  expect(await queue.archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await rename(aside, note);

  const text = await readFile(queue.instance.configFile, 'utf8');
  await writeFile(queue.instance.configFile, `${text}# one line more\n`);
  expect(await queue.archive(segment, { withoutNode: true })).toMatchObject(needsNode);
  await writeFile(queue.instance.configFile, text);
});

test('as the server runs it, in a data directory that is a link - the notes are found all the same', async () => {
  const link = queue.instance.path('linked-data');
  await symlink(queue.cluster.dataDirectory, link);
  const archive = (segment: string, env: Record<string, string>): Promise<CliResult> =>
    runCli(['--config', queue.instance.configFile, 'backup', 'wal-archive', `pg_wal/${segment}`], {
      cwd: link,
      env,
    });
  const withoutNode = { AISHELL_NODE: '/nowhere/node' };
  // A shell keeps the name it was given, as long as it is right.
  for (const PWD of [link, '/']) {
    const [first, second] = queue.segments;
    await queue.clear();
    expect(await archive(first!, { PWD })).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await archive(second!, { PWD, ...withoutNode }), PWD).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await archive(first!, { PWD, ...withoutNode })).toMatchObject(needsNode);
  }
});

test('something in the queue cannot be archived - the segment itself is, and the other one says why in its own call', async () => {
  const [first, second] = [queue.segments[0]!, queue.segments[1]!];
  await queue.clear();
  const path = join(queue.log, second);
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, 1000));
  expect(await queue.archive(first)).toMatchObject({ exitCode: 0, stderr: '' });
  expect(await queue.archive(second)).toMatchObject({
    exitCode: 9,
    stderr: expect.stringContaining('not a whole log segment'),
  });
  expect(await queue.archived()).toContain(first);
  expect(await queue.archived()).not.toContain(second);
  await writeFile(path, bytes);
});

test('the server archives a queue itself - everything arrives, once', async () => {
  await queue.clear();
  const { cluster, instance, log } = queue;
  for (const statement of instance.init.archiveSql.filter(each => /archive_command/.test(each)))
    await cluster.query(statement);
  await cluster.query('select pg_reload_conf()');
  await expect.poll(queue.archived, { timeout: 60_000 }).toEqual(expect.arrayContaining([...queue.segments]));
  const waiting = async (): Promise<string[]> =>
    (await readdir(join(log, 'archive_status'))).filter(name => name.endsWith('.ready'));
  await expect.poll(waiting, { timeout: 60_000 }).toEqual([]);
});
