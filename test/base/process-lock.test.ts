import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { lockHolder, takeProcessLock } from '../../src/base/process-lock.ts';
import { temporaryDirectory } from '../support/temp.ts';

test('a lock that is held - refuses the next, and no other one; released, it can be had again', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'shop.lock');
  expect(lockHolder(path)).toBeNull();
  const held = takeProcessLock(path, 'work');
  expect(held.holder).toBeNull();
  expect(takeProcessLock(path, 'other work')).toMatchObject({
    release: null,
    holder: { pid: process.pid, about: 'work' },
  });
  expect(lockHolder(path)).toMatchObject({ pid: process.pid });
  // By any account, whatever the umask.
  expect((await stat(`${path}.1`)).mode & 0o777).toBe(0o644);
  expect(takeProcessLock(join(directory.path, 'crm.lock'), 'work').holder).toBeNull();
  for (let round = 0; round < 3; round += 1) {
    (round === 0 ? held : takeProcessLock(path, 'work')).release?.();
    expect(lockHolder(path)).toBeNull();
  }
  // What says that it was released stays.
  expect((await readdir(directory.path)).sort()).toEqual(['crm.lock.1', 'shop.lock.3']);
});

test.each([
  ['a process that has ended', JSON.stringify({ pid: await endedProcess(), started: 'x', about: 'a' })],
  [
    'a process of that number that began at another time',
    JSON.stringify({ pid: process.pid, started: 'x', about: 'a' }),
  ],
  ['no process', '{"pid":0}'],
  ['nothing that can be read', 'garbage'],
])('a lock of %s - can be had', async (_, holder) => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'lock');
  await writeFile(`${path}.7`, holder);
  expect(lockHolder(path)).toBeNull();
  expect(takeProcessLock(path, 'work').holder).toBeNull();
  expect(await readdir(directory.path)).toEqual(['lock.8']);
});

test('processes that take and release it over and over, killed ones among them - never two at a time', {
  timeout: 120_000,
}, async () => {
  await using directory = await temporaryDirectory();
  const source = fileURLToPath(new URL('../../src/base/process-lock.ts', import.meta.url));
  // Whoever holds it makes a file that must not be there, and ends now and then without releasing it.
  const program = `
    import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
    import { takeProcessLock } from ${JSON.stringify(source)};
    for (let taken = 0; taken < 150; ) {
      const { release } = takeProcessLock('lock', 'test');
      if (release === null) continue;
      writeFileSync('busy', '', { flag: 'wx' });
      appendFileSync('taken', '.');
      rmSync('busy');
      taken += 1;
      if (process.argv[1] === 'dies' && taken === 50) process.exit(0);
      release();
    }`;
  const children = ['', '', 'dies', 'dies'].map(how =>
    spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', program, how], {
      cwd: directory.path,
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
  const codes = await Promise.all(children.map(async child => (await once(child, 'exit'))[0]));
  expect(codes).toEqual([0, 0, 0, 0]);
  expect(await readFile(join(directory.path, 'taken'), 'utf8')).toHaveLength(400);
});

async function endedProcess(): Promise<number> {
  const child = spawn('true');
  await once(child, 'exit');
  return child.pid ?? 0;
}
