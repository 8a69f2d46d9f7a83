import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  inspectDataDirectory,
  isAlive,
  parsePostmasterOptions,
  readPostmasterFile,
  runningServer,
  withoutDataDirectory,
} from '../../../src/engines/postgres/data-directory.ts';

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aishell-test-'));
});
afterAll(async () => await rm(directory, { recursive: true }));

async function dataDirectory(name: string, pid: number): Promise<string> {
  const path = join(directory, name);
  await mkdir(path);
  await writeFile(
    join(path, 'postmaster.pid'),
    `${pid}\n${path}\n1795390334\n5433\n/tmp\n127.0.0.1\n  1 2\nready   \n`,
  );
  return path;
}

test('postmaster.opts - quotes and spaces within options survive', () => {
  expect(parsePostmasterOptions('/usr/lib/p g/postgres "-D" "/da ta" "-c" "a=\'x "y" z\'"\n')).toEqual({
    program: '/usr/lib/p g/postgres',
    options: ['-D', '/da ta', '-c', 'a=\'x "y" z\''],
  });
  expect(parsePostmasterOptions('/bin/postgres\n')).toEqual({ program: '/bin/postgres', options: [] });
  expect(parsePostmasterOptions('')).toBeNull();
});

test('options for the next start - are without the data directory in all its spellings', () => {
  const options = ['-D', '/a', '-D/a', '--data-directory=/a', '--pgdata=/a', '-c', 'data=1', '-p', '5433'];
  expect(withoutDataDirectory(options)).toEqual(['-c', 'data=1', '-p', '5433']);
});

test('a process of another kind has the number of the dead server - it is not taken for the server', async () => {
  const path = await dataDirectory('foreign', process.pid);
  expect(await readPostmasterFile(path)).toMatchObject({
    pid: process.pid,
    port: 5433,
    socketDirectory: '/tmp',
    status: 'ready',
  });
  expect(await runningServer(path)).toBeNull();
});

test('a process that works in the directory - is taken for its server, until it ends', async () => {
  const path = await dataDirectory('own', 1);
  const child = spawn('sleep', ['60'], { cwd: path });
  await writeFile(join(path, 'postmaster.pid'), `${child.pid}\n${path}\n1\n5433\n\n\n  1 2\nstarting\n`);
  expect(await runningServer(path)).toMatchObject({ pid: child.pid, status: 'starting' });
  const exited = new Promise(resolve => child.once('exit', resolve));
  child.kill();
  await exited;
  expect(await runningServer(path)).toBeNull();
});

test('no process, an empty file, no file - no server', async () => {
  expect(await isAlive(2 ** 22 + 1)).toBe(false);
  const path = await dataDirectory('dead', 2 ** 22 + 1);
  expect(await runningServer(path)).toBeNull();
  await writeFile(join(path, 'postmaster.pid'), '');
  expect(await runningServer(path)).toBeNull();
  expect(await runningServer(join(directory, 'none'))).toBeNull();
});

test('not a data directory - says so', async () => {
  await expect(inspectDataDirectory(directory)).rejects.toMatchObject({
    code: 'FILE_FAILED',
    hint: expect.stringContaining('PG_VERSION'),
  });
  await writeFile(join(directory, 'PG_VERSION'), '9.6\n');
  await expect(inspectDataDirectory(directory)).rejects.toMatchObject({ code: 'ENGINE_VERSION' });
  await writeFile(join(directory, 'PG_VERSION'), '16\n');
  expect(await inspectDataDirectory(directory)).toMatchObject({ majorVersion: 16, uid: process.getuid?.() });
});
