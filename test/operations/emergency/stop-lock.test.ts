import { spawn } from 'node:child_process';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockEmergency } from '../../../src/operations/emergency/stop-lock.ts';
import { temporaryDirectory } from '../../support/temp.ts';

test('a lock that is held - refuses the next, and not another instance; let go, it can be had', async () => {
  await using directory = await temporaryDirectory();
  {
    await using _held = await lockEmergency(directory.path, 'shop', 'stop-writes');
    await expect(lockEmergency(directory.path, 'shop', 'resume-writes')).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`process ${process.pid} (stop-writes)`),
    });
    await using _other = await lockEmergency(directory.path, 'crm', 'stop-writes');
  }
  for (let round = 0; round < 3; round += 1) {
    await using _held = await lockEmergency(directory.path, 'shop', 'stop-writes');
  }
  // What says that it was released stays.
  expect((await readdir(directory.path)).sort()).toEqual(['crm.emergency.lock.1', 'shop.emergency.lock.4']);
});

test.each([
  ['a process that has ended', { pid: await endedProcess(), started: 'x', action: 'a' }],
  ['a process of that number that began at another time', { pid: process.pid, started: 'x', action: 'a' }],
  ['nothing that can be read', 'garbage'],
])('a lock of %s - is taken over, by one alone', async (_, holder) => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'shop.emergency.lock.7');
  await writeFile(path, typeof holder === 'string' ? holder : JSON.stringify(holder));
  const tries = await Promise.allSettled(
    Array.from({ length: 20 }, () => lockEmergency(directory.path, 'shop', 'stop-writes')),
  );
  const got = tries.filter(each => each.status === 'fulfilled');
  expect(got).toHaveLength(1);
  for (const each of tries)
    if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'LOCKED' });
  await got[0]?.value[Symbol.asyncDispose]();
  expect(await readdir(directory.path)).toEqual(['shop.emergency.lock.8']);
});

test('many that take and release it, over and over - never two at a time', async () => {
  await using directory = await temporaryDirectory();
  let holders = 0;
  let most = 0;
  let taken = 0;
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      while (taken < 150) {
        try {
          await using _held = await lockEmergency(directory.path, 'shop', 'stop-writes');
          holders += 1;
          most = Math.max(most, holders);
          taken += 1;
          await new Promise(resolve => setImmediate(resolve));
          holders -= 1;
        } catch (error) {
          expect(error).toMatchObject({ code: 'LOCKED' });
        }
      }
    }),
  );
  expect(most).toBe(1);
});

async function endedProcess(): Promise<number> {
  const child = spawn('true');
  await new Promise(resolve => child.once('exit', resolve));
  return child.pid ?? 0;
}
