import { execFileSync } from 'node:child_process';
import { chmod, chown, lstat, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { localStorage } from '../../../src/storage/local/local-storage.ts';
import { isSame, keysOf, patternBytes, streamOf } from '../bodies.ts';
import { runChild, startChild } from '../start-child.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const isRoot = process.geteuid?.() === 0;
const NOBODY = 65_534;
const one = new Uint8Array([1]);

/** A file system of its own, as small as it is told to be; gone with its scope. */
async function mountTmpfs(options: string): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = await temporaryDirectory();
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', directory.path]);
  return {
    path: directory.path,
    [Symbol.asyncDispose]: async () => {
      execFileSync('umount', [directory.path]);
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Containers often are root without the right to mount. */
function canMount(): boolean {
  if (!isRoot) return false;
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!canMount())('on a file system of 1 MiB (needs root and the right to mount)', () => {
  test('a body that does not fit - STORAGE_FULL with a next step, nothing is left, a smaller one fits', async () => {
    await using disk = await mountTmpfs('size=1m');
    const storage = localStorage(disk.path);
    await storage.put('a/first', patternBytes(300_000));
    const full = { code: 'STORAGE_FULL', hint: expect.stringMatching(/free space/i) };
    const body = patternBytes(2_000_000);
    await expect(storage.put('a/large', body)).rejects.toMatchObject(full);
    await expect(
      storage.put('a/large', streamOf([body.subarray(0, 500_000), body.subarray(500_000)])),
    ).rejects.toMatchObject(full);
    expect(await readdir(disk.path, { recursive: true })).toEqual(['a', 'a/first']);
    expect(await storage.put('a/small', patternBytes(300_000))).toBe('created');
    expect(isSame(await storage.get('a/first'), patternBytes(300_000))).toBe(true);
    expect(await storage.freeBytes?.()).toBeLessThan(500_000);
  });

  test('no inode is left - STORAGE_FULL', async () => {
    await using disk = await mountTmpfs('size=1m,nr_inodes=6');
    const storage = localStorage(disk.path);
    const puts = async (): Promise<void> => {
      for (let index = 0; index < 10; index += 1) await storage.put(`a/${index}`, one);
    };
    await expect(puts()).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    expect((await readdir(disk.path)).filter(name => name.startsWith('.'))).toEqual([]);
  });

  test('a part of the repository is on another file system - the error says so, nothing is left', async () => {
    await using directory = await temporaryDirectory();
    await mkdir(join(directory.path, 'a'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', join(directory.path, 'a')]);
    try {
      await expect(localStorage(directory.path).put('a/b', one)).rejects.toMatchObject({
        code: 'STORAGE_UNREACHABLE',
        message: expect.stringContaining('another file system'),
      });
      expect(await readdir(directory.path, { recursive: true })).toEqual(['a']);
    } finally {
      execFileSync('umount', [join(directory.path, 'a')]);
    }
  });

  test('mounted read-only - STORAGE_DENIED, what is there can be read', async () => {
    await using disk = await mountTmpfs('size=1m');
    const storage = localStorage(disk.path);
    await storage.put('a', one);
    execFileSync('mount', ['-o', 'remount,ro', disk.path]);
    await expect(storage.put('b', one)).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
    await expect(storage.delete('a')).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
    expect(await storage.get('a')).toEqual(one);
  });
});

describe.skipIf(!isRoot)('as another user (needs root to become one)', () => {
  test("root's repository, as nobody - STORAGE_DENIED by every call, never 'missing'", async () => {
    await using directory = await temporaryDirectory();
    await localStorage(join(directory.path, 'repository')).put('a/b', one);
    await chmod(directory.path, 0o755);
    const root = join(directory.path, 'repository');
    for (const task of ['put', 'get', 'list', 'delete'] as const) {
      const { error } = await runChild({ do: task, root, key: 'a/b', uid: NOBODY });
      expect(error, task).toMatchObject({ code: 'STORAGE_DENIED', hint: expect.stringContaining('65534') });
      expect(error?.message).toContain(root);
    }
    const { error } = await runChild({ do: 'put', root: join(directory.path, 'new'), key: 'a', uid: NOBODY });
    expect(error?.code).toBe('STORAGE_DENIED');
  });

  test("root in nobody's repository (sudo) - everything new is nobody's, who can go on with it", async () => {
    await using directory = await temporaryDirectory();
    await chmod(directory.path, 0o755);
    const root = join(directory.path, 'repository');
    await mkdir(root, { mode: 0o700 });
    await chown(root, NOBODY, NOBODY);
    await localStorage(root).put('a/b/c', one);
    for (const name of await readdir(root, { recursive: true })) {
      expect((await lstat(join(root, name))).uid, name).toBe(NOBODY);
    }
    expect(await runChild({ do: 'put', root, key: 'a/b/d', sizeBytes: 3, uid: NOBODY })).toMatchObject({
      result: 'created',
    });
    expect(await runChild({ do: 'get', root, key: 'a/b/c', uid: NOBODY })).toMatchObject({ result: 1 });
  });

  test("root makes a repository in nobody's directory - it takes after it", async () => {
    await using directory = await temporaryDirectory();
    await chown(directory.path, NOBODY, NOBODY);
    const root = join(directory.path, 'x', 'y');
    await localStorage(root).put('a', one);
    for (const name of ['x', 'x/y', 'x/y/a'])
      expect((await lstat(join(directory.path, name))).uid).toBe(NOBODY);
  });
});

describe('killed', () => {
  test('SIGKILL at random moments of put - never a half object, at most one left-over file a time', async () => {
    await using directory = await temporaryDirectory();
    const rounds = 15;
    for (let round = 0; round < rounds; round += 1) {
      const child = startChild({ do: 'put-for-ever', root: directory.path });
      await child.ready;
      child.begin();
      await new Promise(resolve => setTimeout(resolve, 30 + Math.random() * 150));
      child.process.kill('SIGKILL');
      expect((await child.ended).signal).toBe('SIGKILL');
    }
    const storage = localStorage(directory.path);
    const keys = await keysOf(storage.list(''));
    expect(keys.length).toBeGreaterThan(rounds);
    for (const key of keys) {
      const [, sizeBytes, seed] = /(\d+)-(\d+)$/.exec(key) ?? [];
      expect(isSame(await storage.get(key), patternBytes(Number(sizeBytes), Number(seed))), key).toBe(true);
    }
    const leftOver = (await readdir(directory.path)).filter(name => name.startsWith('.tmp-'));
    expect(leftOver.length).toBeLessThanOrEqual(rounds);
  }, 60_000);

  test.each(['before', 'middle', 'after'] as const)(
    'SIGKILL %s a write of a plan - what is there is whole',
    async at => {
      await using directory = await temporaryDirectory();
      const counterFile = join(directory.path, 'writes');
      const root = join(directory.path, 'repository');
      const plan = { write: 2, at, action: 'kill', counterFile };
      const task = { do: 'put', root, sizeBytes: 1_000_001 } as const;
      expect(await runChild({ ...task, key: 'a/first' }, plan)).toMatchObject({ result: 'created' });
      expect(await runChild({ ...task, key: 'a/second' }, plan)).toMatchObject({ signal: 'SIGKILL' });
      const storage = localStorage(root);
      expect(await keysOf(storage.list(''))).toEqual(at === 'after' ? ['a/first', 'a/second'] : ['a/first']);
      const leftOver = (await readdir(root)).filter(name => name.startsWith('.tmp-'));
      const sizes = await Promise.all(leftOver.map(async name => (await lstat(join(root, name))).size));
      expect(sizes).toEqual(at === 'middle' ? [500_000] : []);
      expect(await runChild({ ...task, key: 'a/second' }, plan)).toMatchObject({
        result: at === 'after' ? 'exists' : 'created',
      });
      expect(isSame(await storage.get('a/second'), patternBytes(1_000_001))).toBe(true);
    },
  );
});
