import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { askAgent } from '../../src/agent/agent-client.ts';
import { isHeldByAnother, takeAgentLock } from '../../src/agent/agent-lock.ts';
import { type AgentAnswers, listen } from '../../src/agent/agent-server.ts';
import type { AgentStatus } from '../../src/agent/agent-status.ts';
import { archiveThroughAgent } from '../../src/agent/archive-through-agent.ts';
import { AppError } from '../../src/base/errors.ts';
import { temporaryDirectory } from '../support/temp.ts';

const status = { instance: 'shop', state: 'streaming' } as unknown as AgentStatus;
const never = (): Promise<never> => new Promise(() => undefined);
const answers: AgentAnswers = {
  status: () => status,
  archive: async () => true,
  resolved: async incident => incident === 'incident_20271027_140023_abc123',
};

/** What comes back for raw text, up to the first final answer. */
async function raw(path: string, text: string): Promise<string> {
  const socket = connect(path);
  let answer = '';
  socket.setEncoding('utf8').on('data', chunk => {
    answer += chunk;
  });
  // It is cut off when it sends too much.
  socket.on('error', () => undefined);
  socket.write(text);
  for (let tries = 0; tries < 200 && !answer.includes('"ok"') && !socket.destroyed; tries += 1)
    await sleep(5);
  socket.destroy();
  return answer;
}

test('the status - answered, to the user alone; a socket left by a dead agent is in nobody’s way', async () => {
  await using place = await temporaryDirectory();
  const path = join(place.path, 'agent.sock');
  writeFileSync(path, '');
  await using _server = await listen(path, answers);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await askAgent(path, { op: 'status' })).toEqual({ ok: true, status });
});

test('no agent, or one that does not answer - null, soon', async () => {
  await using place = await temporaryDirectory();
  expect(await askAgent(join(place.path, 'none'), { op: 'status' })).toBeNull();
  const path = join(place.path, 'agent.sock');
  const silent = { ...answers, archive: never };
  const server = await listen(path, silent);
  const asked = askAgent(path, { op: 'archive', name: 'x', path: '/x' });
  // While it works it says so, and is waited for; when it is gone, it is not.
  expect(await Promise.race([asked, sleep(3500, 'waiting')])).toBe('waiting');
  await server[Symbol.asyncDispose]();
  expect(await asked).toBeNull();
});

test('a segment - archived, declined or failed: the answer says which', async () => {
  await using place = await temporaryDirectory();
  const path = join(place.path, 'agent.sock');
  const request = { op: 'archive', name: '0'.repeat(24), path: '/x' } as const;
  const outcomes: (() => Promise<true | string>)[] = [
    async () => true,
    async () => 'not received',
    () => Promise.reject(new AppError('TIMEOUT', 'too slow', { hint: 'Wait.' })),
  ];
  const replies: unknown[] = [];
  for (const archive of outcomes) {
    await using _server = await listen(path, { ...answers, archive });
    replies.push(await askAgent(path, request));
  }
  expect(replies).toEqual([
    { ok: true, archived: true },
    { ok: true, declined: 'not received' },
    { ok: false, error: { code: 'TIMEOUT', message: 'too slow', hint: 'Wait.' } },
  ]);
});

test('what is no request - refused with UNSUPPORTED, or cut off; the agent goes on', async () => {
  await using place = await temporaryDirectory();
  const path = join(place.path, 'agent.sock');
  await using _server = await listen(path, answers);
  for (const text of ['hello\n', '{}\n', '[]\n', 'null\n', '{"op":"stop"}\n', '{"op":"archive","name":5}\n'])
    expect(await raw(path, text)).toContain('"code":"UNSUPPORTED"');
  expect(await raw(path, 'x'.repeat(200_000))).toBe('');
  expect(await askAgent(path, { op: 'status' })).toEqual({ ok: true, status });
});

test('a path longer than the kernel takes for a socket - it answers there all the same', async () => {
  await using place = await temporaryDirectory();
  const directory = join(place.path, 'x'.repeat(120));
  mkdirSync(directory);
  const path = join(directory, 'agent.sock');
  expect(await askAgent(path, { op: 'status' })).toBeNull();
  await using _server = await listen(path, answers);
  expect(existsSync(path)).toBe(true);
  expect(await askAgent(path, { op: 'status' })).toEqual({ ok: true, status });
  expect(await askAgent(join(place.path, 'y'.repeat(120), 'agent.sock'), { op: 'status' })).toBeNull();
});

test('archive_command beside no agent, or with another file than a segment - it does the work itself', async () => {
  await using place = await temporaryDirectory();
  const agent = { spool: place.path, instance: 'shop', env: {} };
  expect(await archiveThroughAgent(agent, `pg_wal/${'0'.repeat(23)}1`)).toBe(false);
  expect(await archiveThroughAgent({ ...agent, spool: null }, 'pg_wal/00000002.history')).toBe(false);
});

test('the lock of an instance - one holder at a time', async () => {
  await using place = await temporaryDirectory();
  const path = join(place.path, 'lock');
  const lock = takeAgentLock(path, 'shop');
  expect(() => takeAgentLock(path, 'shop')).toThrow(expect.objectContaining({ code: 'LOCKED' }));
  expect([isHeldByAnother(path, process.pid), isHeldByAnother(path, 1)]).toEqual([false, true]);
  lock.release();
  expect(isHeldByAnother(path, 1)).toBe(false);
  takeAgentLock(path, 'shop').release();
});
