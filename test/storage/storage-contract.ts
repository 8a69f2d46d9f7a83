import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BodyStream, Storage } from '../../src/storage/storage.ts';
import { collect, isSame, keysOf, patternBytes, streamOf } from './bodies.ts';

export interface OpenedStorage {
  readonly storage: Storage;
  close(): Promise<void>;
}

const KIB = 1024;
const MIB = KIB * KIB;
const text = (bytes: Uint8Array | null): string | null =>
  bytes === null ? null : Buffer.from(bytes).toString();
const bytesOf = (content: string): Uint8Array => new TextEncoder().encode(content);

/** What every adapter promises, checked on the real thing. `open` gives an empty storage. */
export function storageContract(name: string, open: () => Promise<OpenedStorage>): void {
  describe(`${name} keeps the storage contract`, () => {
    let opened: OpenedStorage;
    let storage: Storage;
    beforeAll(async () => {
      opened = await open();
      storage = opened.storage;
    });
    afterAll(async () => {
      await opened.close();
    });
    describe('empty', () => emptyStorage(() => storage));
    describe('put', () => puts(() => storage));
    describe('get and head', () => reads(() => storage));
    describe('list', () => lists(() => storage));
    describe('delete', () => deletes(() => storage));
    describe('refusals', () => refusals(() => storage));
    describe('abort', () => aborts(() => storage));
  });
}

function emptyStorage(storage: () => Storage): void {
  test('nothing was put yet - missing is a value everywhere', async () => {
    expect(await storage().get('a/b')).toBeNull();
    expect(await storage().get('a/b', { offset: -5 })).toBeNull();
    expect(await storage().head('a/b')).toBeNull();
    expect(await keysOf(storage().list(''))).toEqual([]);
    expect(await keysOf(storage().list('a/b'))).toEqual([]);
    await storage().delete('a/b');
  });

  test('free space, where it is known - a number of bytes', async () => {
    const freeBytes = await storage().freeBytes?.();
    if (freeBytes !== undefined) expect(freeBytes).toBeGreaterThan(0);
  });

  test('description - says something and holds no secret of ours', () => {
    expect(storage().description).toMatch(/^[a-z]/);
  });
}

function puts(storage: () => Storage): void {
  test('a new key, then the same again - created, then exists, the first bytes stay', async () => {
    expect(await storage().put('put/one', bytesOf('first'))).toBe('created');
    expect(await storage().put('put/one', bytesOf('second'))).toBe('exists');
    expect(await storage().put('put/one', streamOf([bytesOf('third')]))).toBe('exists');
    expect(text(await storage().get('put/one'))).toBe('first');
  });

  test('the caller reuses its buffer after put - the object does not change', async () => {
    const body = bytesOf('before');
    await storage().put('put/reused', body);
    body.fill(0);
    expect(text(await storage().get('put/reused'))).toBe('before');
  });

  test('the caller changes what get gave - the object does not change', async () => {
    await storage().put('put/given', bytesOf('before'));
    (await storage().get('put/given'))?.fill(0);
    expect(text(await storage().get('put/given'))).toBe('before');
  });

  test('an empty object - is there, and empty', async () => {
    expect(await storage().put('put/empty', new Uint8Array(0))).toBe('created');
    expect(await storage().put('put/empty-stream', streamOf([]))).toBe('created');
    expect(await storage().get('put/empty')).toEqual(new Uint8Array(0));
    expect(await storage().get('put/empty', { offset: -3, length: 2 })).toEqual(new Uint8Array(0));
    expect((await storage().head('put/empty-stream'))?.sizeBytes).toBe(0);
  });

  test('a stream of many chunks, empty ones among them - joined in order', async () => {
    const whole = patternBytes(300 * KIB);
    const cuts = [0, 1, 1, 5000, 70_000, 70_000, 299_999, whole.length];
    const chunks = cuts.slice(1).map((end, index) => whole.subarray(cuts[index], end));
    expect(await storage().put('put/stream', streamOf(chunks))).toBe('created');
    expect(isSame(await storage().get('put/stream'), whole)).toBe(true);
  });

  test.each([
    ['ends early', streamOf([bytesOf('abc')], 4)],
    ['is empty', streamOf([], 1)],
    ['is longer', streamOf([bytesOf('abc'), bytesOf('d')], 3)],
  ])('a stream that %s - an error, and nothing is left', async (_, body) => {
    await expect(storage().put('put/wrong', body)).rejects.toMatchObject({ code: 'FILE_FAILED' });
    expect(await storage().head('put/wrong')).toBeNull();
    expect(await keysOf(storage().list('put/wrong'))).toEqual([]);
    expect(await storage().put('put/wrong', bytesOf('right'))).toBe('created');
    await storage().delete('put/wrong');
  });

  test("a stream whose source fails - the source's own error, and nothing is left", async () => {
    const failure = Object.assign(new Error('no such file'), { code: 'ENOENT' });
    let closed = false;
    const body: BodyStream = {
      sizeBytes: 10,
      async *open() {
        try {
          yield bytesOf('abc');
          throw failure;
        } finally {
          closed = true;
        }
      },
    };
    await expect(storage().put('put/failing', body)).rejects.toBe(failure);
    expect(closed).toBe(true);
    expect(await storage().head('put/failing')).toBeNull();
  });

  test('ten puts of one key at once - exactly one creates, and its bytes are there', async () => {
    const bodies = Array.from({ length: 10 }, (_, seed) => patternBytes(64 * KIB, seed + 1));
    const outcomes = await Promise.all(bodies.map(body => storage().put('put/race', streamOf([body]))));
    expect(outcomes.filter(outcome => outcome === 'created')).toHaveLength(1);
    expect(isSame(await storage().get('put/race'), bodies[outcomes.indexOf('created')])).toBe(true);
  });

  test('an object of 40 MiB - whole, and readable in parts', async () => {
    const body = patternBytes(40 * MIB);
    expect(await storage().put('put/large', body)).toBe('created');
    expect(isSame(await storage().get('put/large'), body)).toBe(true);
    const part = await storage().get('put/large', { offset: 33 * MIB + 1, length: 1000 });
    expect(part).toEqual(body.slice(33 * MIB + 1, 33 * MIB + 1001));
    await storage().delete('put/large');
  });
}

function reads(storage: () => Storage): void {
  beforeAll(async () => {
    await storage().put('read/digits', bytesOf('0123456789'));
  });

  test.each([
    [{ offset: 0 }, '0123456789'],
    [{ offset: 3 }, '3456789'],
    [{ offset: 3, length: 4 }, '3456'],
    [{ offset: 3, length: 0 }, ''],
    [{ offset: 8, length: 100 }, '89'],
    [{ offset: 10 }, ''],
    [{ offset: 11, length: 5 }, ''],
    [{ offset: Number.MAX_SAFE_INTEGER }, ''],
    [{ offset: -3 }, '789'],
    [{ offset: -3, length: 2 }, '78'],
    [{ offset: -3, length: 100 }, '789'],
    [{ offset: -10 }, '0123456789'],
    [{ offset: -11 }, '0123456789'],
  ])('the range %j of ten bytes - %j', async (range, expected) => {
    expect(text(await storage().get('read/digits', range))).toBe(expected);
  });

  test.each([
    { offset: 0.5 },
    { offset: Number.NaN },
    { offset: 0, length: -1 },
    { offset: 0, length: Number.NaN },
  ])('the range %j - refused as a bug', async range => {
    await expect(storage().get('read/digits', range)).rejects.toThrow('mistake in aishell');
  });

  test('get - plain bytes, not an adapter type', async () => {
    const bytes = await storage().get('read/digits');
    expect(bytes?.constructor).toBe(Uint8Array);
  });

  test('head - key, size and a time of now', async () => {
    const before = Date.now();
    await storage().put('read/fresh', bytesOf('abc'));
    const facts = await storage().head('read/fresh');
    expect(facts).toMatchObject({ key: 'read/fresh', sizeBytes: 3 });
    expect(Math.abs((facts?.modifiedMs ?? 0) - before)).toBeLessThan(60_000);
  });

  test('the start of a key, or a key below an object - no object', async () => {
    expect(await storage().get('read')).toBeNull();
    expect(await storage().head('read')).toBeNull();
    expect(await storage().get('read/digits/below')).toBeNull();
    expect(await storage().head('read/digits/below')).toBeNull();
  });
}

function lists(storage: () => Storage): void {
  // In the order of bytes '-' and '.' come before '/', and '/' before digits and letters.
  const keys = [
    'l/A',
    'l/a-',
    'l/a-b/c',
    'l/a.b',
    'l/a/B',
    'l/a/b.c/d',
    'l/a/b/c',
    'l/a/bb',
    'l/a0',
    'l/a_',
    'l/ab/c',
  ];
  const many = Array.from(
    { length: 1200 },
    (_, index) => `many/${index % 3}/${String(index).padStart(5, '0')}`,
  );
  beforeAll(async () => {
    for (const key of keys.toReversed()) await storage().put(key, bytesOf(key));
    for (let start = 0; start < many.length; start += 50) {
      await Promise.all(many.slice(start, start + 50).map(key => storage().put(key, bytesOf(key))));
    }
  }, 60_000);

  test('all below a prefix - in the order of their bytes, with size and time', async () => {
    const found = await collect(storage().list('l/'));
    expect(found.map(facts => facts.key)).toEqual(keys);
    for (const facts of found) expect(facts.sizeBytes).toBe(facts.key.length);
    for (const facts of found) expect(facts.modifiedMs).toBeGreaterThan(Date.now() - 3_600_000);
  });

  test.each([
    '',
    'l',
    'l/',
    'l/a',
    'l/a/',
    'l/a/b',
    'l/a/b.',
    'l/a-',
    'l/a-b/c',
    'l/a-b/cc',
    'l/z',
    'z',
    'l/a/b/c/d',
    'l/.',
    'l/a_/',
  ])('the prefix %j - exactly the keys that start so', async prefix => {
    const found = (await keysOf(storage().list(prefix))).filter(key => key.startsWith('l/'));
    expect(found).toEqual(keys.filter(key => key.startsWith(prefix)));
  });

  test.each([
    'a',
    'l',
    'l/',
    'l/a',
    'l/a-b',
    'l/a-b/c',
    'l/a/',
    'l/a/B',
    'l/a/b',
    'l/a/b/c',
    'l/a/b/c/d',
    'l/a/c',
    'l/a0',
    'l/ab/c',
    'l/b',
    'm',
    'z',
  ])('after %j - only the keys beyond it', async after => {
    expect(await keysOf(storage().list('l/', { after }))).toEqual(keys.filter(key => key > after));
    expect(await keysOf(storage().list('l/a/', { after }))).toEqual(
      keys.filter(key => key.startsWith('l/a/') && key > after),
    );
  });

  test('more than 1,000 keys - all of them, once, in order', async () => {
    expect(await keysOf(storage().list('many/'))).toEqual(many.toSorted());
    const middle = many.toSorted()[700] ?? '';
    expect(await keysOf(storage().list('many/', { after: middle }))).toEqual(many.toSorted().slice(701));
  });

  test('the caller stops early - no error', async () => {
    for await (const facts of storage().list('many/')) {
      expect(facts.key).toBe('many/0/00000');
      break;
    }
  });

  test('objects are removed while they are listed - the rest is listed', async () => {
    for (const key of ['going/a', 'going/b', 'going/c']) await storage().put(key, bytesOf(key));
    const seen: string[] = [];
    for await (const { key } of storage().list('going/')) {
      seen.push(key);
      for (const each of ['going/a', 'going/b', 'going/c']) await storage().delete(each);
    }
    expect(seen[0]).toBe('going/a');
    expect(await keysOf(storage().list('going/'))).toEqual([]);
  });
}

function deletes(storage: () => Storage): void {
  test('an object - is gone, a second time is fine, its key is free again', async () => {
    await storage().put('delete/one', bytesOf('old'));
    await storage().put('delete/other', bytesOf('other'));
    await storage().delete('delete/one');
    await storage().delete('delete/one');
    expect(await storage().get('delete/one')).toBeNull();
    expect(await keysOf(storage().list('delete/'))).toEqual(['delete/other']);
    expect(await storage().put('delete/one', bytesOf('new'))).toBe('created');
    expect(text(await storage().get('delete/one'))).toBe('new');
  });

  test('the start of other keys - nothing happens to them', async () => {
    await storage().put('delete/deep/one', bytesOf('1'));
    await storage().delete('delete/deep');
    await storage().delete('delete/deep/one/below');
    expect(text(await storage().get('delete/deep/one'))).toBe('1');
  });
}

const hostileKeys = [
  '',
  '/',
  '/etc/passwd',
  '..',
  '.',
  'a/..',
  '../a',
  'a/../b',
  'a/./b',
  'a//b',
  'a/',
  '/a',
  'a\\b',
  'a b',
  'a\0b',
  'a\nb',
  'é',
  'a:b',
  '~',
  'a/%2e%2e/b',
  'a/.tmp-x',
  '.tmp-x',
  'x'.repeat(256),
  `${'x/'.repeat(600)}x`,
];

function refusals(storage: () => Storage): void {
  test.each(hostileKeys)('the key %j - refused as a bug by every call', async key => {
    const bug = 'mistake in aishell';
    await expect(storage().put(key, bytesOf('x'))).rejects.toThrow(bug);
    await expect(storage().get(key)).rejects.toThrow(bug);
    await expect(storage().head(key)).rejects.toThrow(bug);
    await expect(storage().delete(key)).rejects.toThrow(bug);
  });

  test.each(['..', '../', '/', '/etc', 'a/../', 'a//', 'a b', './', 'a/\0', '.tmp-x/'])(
    'the prefix %j - refused as a bug',
    async prefix => {
      await expect(async () => await keysOf(storage().list(prefix))).rejects.toThrow('mistake in aishell');
    },
  );
}

function aborts(storage: () => Storage): void {
  const reason = new Error('stopped on request');

  test('aborted before the call - every call rejects with the reason', async () => {
    await storage().put('abort/there', bytesOf('x'));
    const signal = AbortSignal.abort(reason);
    await expect(storage().put('abort/new', bytesOf('x'), { signal })).rejects.toBe(reason);
    await expect(storage().get('abort/there', undefined, { signal })).rejects.toBe(reason);
    await expect(storage().head('abort/there', { signal })).rejects.toBe(reason);
    await expect(storage().delete('abort/there', { signal })).rejects.toBe(reason);
    await expect(keysOf(storage().list('abort/', { signal }))).rejects.toBe(reason);
    expect(await keysOf(storage().list('abort/'))).toEqual(['abort/there']);
  });

  test('aborted while the body hangs - rejects with the reason, and nothing is left', async () => {
    const controller = new AbortController();
    const body: BodyStream = {
      sizeBytes: 10,
      async *open() {
        yield bytesOf('abc');
        setTimeout(() => controller.abort(reason), 20);
        await new Promise(() => undefined);
      },
    };
    await expect(storage().put('abort/hanging', body, { signal: controller.signal })).rejects.toBe(reason);
    expect(await storage().head('abort/hanging')).toBeNull();
    expect(await keysOf(storage().list('abort/h'))).toEqual([]);
  });

  test('aborted while listing - the reason, not the rest', async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    const listing = async (): Promise<void> => {
      for await (const { key } of storage().list('many/', { signal: controller.signal })) {
        seen.push(key);
        controller.abort(reason);
      }
    };
    await expect(listing()).rejects.toBe(reason);
    expect(seen).toHaveLength(1);
  });
}
