import { execFileSync } from 'node:child_process';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  formatSecretReference,
  parseSecretReference,
  resolveSecretRef,
  Secret,
} from '../../src/base/secret.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aishell-secret-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

async function secretFile(content: string, mode: number): Promise<string> {
  const path = join(directory, `${Math.random()}`.slice(2));
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
}

test('a secret in any output - [redacted], only reveal tells it', () => {
  const secret = new Secret('hunter2');
  const nested = { connection: { password: secret } };
  for (const output of [
    String(secret),
    `${secret}`,
    JSON.stringify(nested),
    inspect(nested, { depth: 9, showHidden: true }),
  ]) {
    expect(output).toContain('[redacted]');
    expect(output).not.toContain('hunter2');
  }
  expect(inspect(structuredClone({ ...nested }))).not.toContain('hunter2');
  expect(Object.keys(secret)).toEqual([]);
  expect(secret.reveal()).toBe('hunter2');
});

test.each([
  ['env:NAME', { kind: 'env', name: 'NAME' }],
  ['file:/a b/c', { kind: 'file', path: '/a b/c' }],
  ['command:pass show "a:b"', { kind: 'command', command: 'pass show "a:b"' }],
  ['env:1NAME', null],
  ['file:relative', null],
  ['command:', null],
  ['hunter2', null],
  ['', null],
])('the reference %j - %j', (text, expected) => {
  expect(parseSecretReference(text)).toEqual(expected);
  if (expected !== null) expect(formatSecretReference(parseSecretReference(text)!)).toBe(text);
});

test('each kind of reference - the secret, without one line end', async () => {
  const path = await secretFile('in a file\n\n', 0o600);
  const env = { NAME: ' in the environment ', PATH: process.env.PATH };
  expect((await resolveSecretRef('env:NAME', { env })).reveal()).toBe(' in the environment ');
  expect((await resolveSecretRef(`file:${path}`)).reveal()).toBe('in a file\n');
  expect((await resolveSecretRef('command:printf "from $NAME\\r\\n"', { env })).reveal()).toBe(
    'from  in the environment ',
  );
});

test('a secret that is written out - SECRET_EXPOSED, not repeated', async () => {
  const error: unknown = await resolveSecretRef('hunter2').catch((each: unknown) => each);
  expect(error).toMatchObject({ code: 'SECRET_EXPOSED' });
  expect(inspect(error)).not.toContain('hunter2');
});

test.each([0o644, 0o640, 0o620, 0o604, 0o601, 0o660])(
  'a file of mode %o - SECRET_EXPOSED with the command that helps',
  async mode => {
    const path = await secretFile('x', mode);
    if (process.geteuid?.() === 0) await chown(path, 65_534, 65_534);
    await expect(resolveSecretRef(`file:${path}`)).rejects.toMatchObject({
      code: 'SECRET_EXPOSED',
      hint: expect.stringContaining(`chmod 600 '${path}'`),
    });
  },
);

test.skipIf(process.geteuid?.() !== 0)(
  "root's file of mode 640 (needs root) - the group may read it, not write it",
  async () => {
    expect((await resolveSecretRef(`file:${await secretFile('x', 0o640)}`)).reveal()).toBe('x');
    await expect(resolveSecretRef(`file:${await secretFile('x', 0o660)}`)).rejects.toMatchObject({
      code: 'SECRET_EXPOSED',
    });
  },
);

test('what is not there, empty or not a file - SECRET_UNAVAILABLE that names it', async () => {
  const [empty, pipe] = [await secretFile('\n', 0o600), join(directory, 'pipe')];
  execFileSync('mkfifo', ['-m', '600', pipe]);
  const refs = [
    'env:AISHELL_NOT_SET',
    'file:/nowhere/at/all',
    `file:${empty}`,
    `file:${pipe}`,
    `file:${directory}`,
    'command:true',
    'command:exit 3',
    'command:/nowhere/at/all',
    'command:head -c 100000 /dev/zero',
    `file:${await secretFile('x'.repeat(70_000), 0o600)}`,
  ];
  for (const ref of refs) {
    const name = ref.slice(ref.indexOf(':') + 1);
    await expect(resolveSecretRef(ref, { env: { PATH: process.env.PATH } }), ref).rejects.toMatchObject({
      code: ref === `file:${directory}` ? expect.stringMatching('SECRET_') : 'SECRET_UNAVAILABLE',
      message: expect.stringContaining(name),
    });
  }
});

test('a command that fails after it printed - its output is in no part of the error', async () => {
  const error: unknown = await resolveSecretRef('command:printf hunt; printf er2; exit 1').catch(
    (each: unknown) => each,
  );
  expect(error).toMatchObject({ code: 'SECRET_UNAVAILABLE' });
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('hunter2');
});

test('aborted while the command runs - the reason', async () => {
  const reason = new Error('stopped');
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), 50);
  await expect(resolveSecretRef('command:sleep 100', { signal: controller.signal })).rejects.toBe(reason);
});
