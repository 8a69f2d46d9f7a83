import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { checkSafetyCopies } from '../../../src/operations/doctor/doctor.ts';
import { temporaryDirectory } from '../../support/temp.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('old safety copies below a directory with a space and a quote - the command removes them, and nothing else', async () => {
  await using directory = await temporaryDirectory();
  const other = join(directory.path, 'my');
  const data = join(directory.path, "my db's", 'data');
  const old = `${data}.aishell-safety-1`;
  for (const path of [other, data, old]) mkdirSync(path, { recursive: true });
  expect(await checkSafetyCopies(data)).toMatchObject({ status: 'ok', remedy: null });
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 8 * 86_400_000 });
  const { status, remedy } = await checkSafetyCopies(data);
  expect(status).toBe('warning');
  const command = remedy!.slice(remedy!.indexOf('rm -rf'));
  execFileSync('/bin/sh', ['-c', command], { cwd: directory.path });
  expect([other, data, old].map(path => existsSync(path))).toEqual([true, true, false]);
});
