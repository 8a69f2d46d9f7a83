import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { runCommand } from '../../src/base/run-command.ts';

test('a command that fails - its exit code and both outputs', async () => {
  const result = await runCommand(['/bin/sh', '-c', 'echo out; echo err >&2; exit 3']);
  expect(result).toEqual({ exitCode: 3, stdout: 'out\n', stderr: 'err\n' });
});

test('arguments with spaces, quotes and dollar signs - reach the program as they are', async () => {
  const { stdout } = await runCommand(['printf', '%s|', 'a b', '$HOME', `'"`]);
  expect(stdout).toBe(`a b|$HOME|'"|`);
});

test('input and environment - are handed over, nothing else is', async () => {
  const { stdout } = await runCommand(['/bin/sh', '-c', 'cat; env'], {
    stdin: 'given\n',
    env: { ONLY: 'this' },
  });
  expect(stdout).toMatch(/^given\n/);
  expect(stdout).toContain('ONLY=this');
  expect(stdout).not.toContain('HOME=');
});

test('a program that does not read its input - is no failure', async () => {
  const { exitCode } = await runCommand(['true'], { stdin: new Uint8Array(4 * 1024 * 1024) });
  expect(exitCode).toBe(0);
});

test('no such program - PROGRAM_NOT_FOUND', async () => {
  await expect(runCommand(['/nowhere/aishell-none'])).rejects.toMatchObject({ code: 'PROGRAM_NOT_FOUND' });
});

test('no such working directory - the directory is named, not the program', async () => {
  await expect(runCommand(['true'], { cwd: '/nowhere' })).rejects.toMatchObject({
    code: 'FILE_FAILED',
    message: expect.stringContaining('/nowhere'),
  });
});

test('longer than its time - TIMEOUT, and what it started is gone', async () => {
  const { stdout } = await runCommand(['/bin/sh', '-c', 'echo $$']);
  expect(Number(stdout)).toBeGreaterThan(1);
  const started = performance.now();
  const script = 'sleep 60 & echo $! >&2; wait';
  await expect(runCommand(['/bin/sh', '-c', script], { timeoutMs: 200 })).rejects.toMatchObject({
    code: 'TIMEOUT',
  });
  expect(performance.now() - started).toBeLessThan(4000);
});

test('cancelled - ends with the reason of the signal', async () => {
  const controller = new AbortController();
  const running = runCommand(['sleep', '60'], { signal: controller.signal });
  await sleep(50);
  controller.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
});

test('much output - its end is kept', async () => {
  const { stdout } = await runCommand(['/bin/sh', '-c', 'seq 1 200000'], { maxOutputBytes: 1000 });
  expect(Buffer.byteLength(stdout)).toBe(1000);
  expect(stdout.endsWith('200000\n')).toBe(true);
});

test('a process left in the background - is not waited for', async () => {
  const started = performance.now();
  const { stdout } = await runCommand(['/bin/sh', '-c', 'sleep 5 & echo done']);
  expect(stdout).toBe('done\n');
  expect(performance.now() - started).toBeLessThan(3000);
});

test('killed by a signal - 128 and its number', async () => {
  expect((await runCommand(['/bin/sh', '-c', 'kill -TERM $$'])).exitCode).toBe(143);
});
