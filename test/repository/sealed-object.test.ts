import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import { HEADER_BYTES } from '../../src/crypto/sealed-frame.ts';
import { putIdentity, readIdentities } from '../../src/repository/identity.ts';
import { identityPath, logPath, manifestPath, packPath } from '../../src/repository/layout.ts';
import { getLogFile, putLogFile } from '../../src/repository/log-archive.ts';
import { manifestLines, openManifest } from '../../src/repository/manifest-reader.ts';
import type { Repository } from '../../src/repository/repository.ts';
import { frameBodies, openSealed, openSealedBytes } from '../../src/repository/sealed-reader.ts';
import { SealedWriter } from '../../src/repository/sealed-writer.ts';
import { collect, memoryRepository, overwrite } from './memory-repository.ts';
import { writeBackup } from './write-backup.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const system = { instance: 'production', systemIdentifier: '7566129433051829306' };
const codes = ['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'];

/** A small object of each kind, and the way the program reads all of it. */
interface Sample {
  readonly repository: Repository;
  readonly path: string;
  readonly bytes: Uint8Array;
  read(): Promise<unknown>;
}

const kinds: Readonly<Record<string, () => Promise<Sample>>> = {
  manifest: async () => {
    const repository = memoryRepository();
    const { backup } = await writeBackup(repository, [{ path: 'PG_VERSION', bytes: Buffer.from('18\n') }]);
    return await sample(repository, manifestPath('production', backup.id), async () => {
      const manifest = await openManifest(repository, backup);
      return manifest === null
        ? null
        : [manifest.backup, manifest.packs, await collect(manifestLines(repository, manifest))];
    });
  },
  pack: async () => {
    const repository = memoryRepository();
    const files = [
      { path: 'a', bytes: randomBytes(100) },
      { path: 'b', bytes: Buffer.alloc(200, 'b') },
    ];
    const { backup, packs } = await writeBackup(repository, files);
    const path = packPath('production', backup.id, packs[0]!.id);
    return await sample(repository, path, async () => {
      const object = await openSealed(repository.storage, {
        path,
        kind: 'pack',
        keyring: repository.keyring,
      });
      return object === null ? null : [object.footer, await collect(frameBodies(repository.storage, object))];
    });
  },
  log: async () => {
    const repository = memoryRepository();
    const name = '00000002.history';
    await putLogFile(repository, {
      ...system,
      name,
      bytes: Buffer.from('1\t0/3000000\tno target\n'),
      level: 3,
    });
    return await sample(repository, logPath(system, name), () => getLogFile(repository, system, name));
  },
  identity: async () => {
    const repository = memoryRepository();
    await putIdentity(repository, {
      ...system,
      engine: 'postgresql',
      serverVersion: 180004,
      created: '2025-10-27T14:00:00Z',
    });
    return await sample(repository, identityPath('production', system.systemIdentifier), () =>
      readIdentities(repository, 'production'),
    );
  },
};

async function sample(repository: Repository, path: string, read: () => Promise<unknown>): Promise<Sample> {
  const bytes = await repository.storage.get(path);
  if (bytes === null) throw new Error(`there is no ${path}`);
  return { repository, path, bytes, read };
}

/** Reads the object with other bytes in its place: it must be refused by name, whatever they are. */
async function expectRefused(
  { repository, path, read }: Sample,
  bytes: Uint8Array,
  what: string,
): Promise<void> {
  await overwrite(repository, path, bytes);
  const outcome = await read().catch((error: unknown) => error);
  expect(outcome, what).toBeInstanceOf(AppError);
  const { code, message } = outcome as AppError;
  expect(codes, `${what}: ${message}`).toContain(code);
  if (code !== 'KEY_WRONG') expect(message, what).toContain(path);
}

test.for(Object.keys(kinds))('%s - every byte, changed in one bit and in all, is refused', async kind => {
  const object = await kinds[kind]!();
  const before = await object.read();
  for (let at = 0; at < object.bytes.length; at += 1) {
    for (const mask of [1 << (at & 7), 0xff]) {
      const copy = object.bytes.slice();
      copy[at] = copy[at]! ^ mask;
      await expectRefused(object, copy, `byte ${at} of ${object.bytes.length}, bits ${mask}`);
    }
  }
  await overwrite(object.repository, object.path, object.bytes);
  expect(await object.read()).toEqual(before);
});

test.for(Object.keys(kinds))(
  '%s - cut off at every length, and with bytes behind, is refused',
  async kind => {
    const object = await kinds[kind]!();
    for (let length = 0; length < object.bytes.length; length += 1)
      await expectRefused(
        object,
        object.bytes.subarray(0, length),
        `${length} of ${object.bytes.length} bytes`,
      );
    for (const more of [new Uint8Array(1), randomBytes(12), object.bytes])
      await expectRefused(object, Buffer.concat([object.bytes, more]), `${more.length} bytes more`);
  },
);

test.for(Object.keys(kinds))(
  '%s - in which a part stands twice or is missing in the middle, is refused',
  async kind => {
    const object = await kinds[kind]!();
    const { bytes } = object;
    for (let at = HEADER_BYTES; at < bytes.length; at += 7) {
      await expectRefused(
        object,
        Buffer.concat([bytes.subarray(0, at), bytes.subarray(at - 5)]),
        `5 bytes twice at ${at}`,
      );
      await expectRefused(
        object,
        Buffer.concat([bytes.subarray(0, at - 5), bytes.subarray(at)]),
        `5 bytes missing at ${at}`,
      );
    }
  },
);

test.for(Object.keys(kinds))('%s - of another repository, or of another kind, is refused', async kind => {
  const object = await kinds[kind]!();
  await expectRefused(object, (await kinds[kind]!()).bytes, 'of another repository');
  for (const other of Object.values(kinds)) {
    if (other !== kinds[kind]) await expectRefused(object, (await other()).bytes, 'of another kind');
  }
});

test('two objects of one kind that change places - both are refused', async () => {
  const repository = memoryRepository();
  const names = ['000000010000000000000001', '000000010000000000000002'];
  for (const [index, name] of names.entries())
    await putLogFile(repository, { ...system, name, bytes: new Uint8Array(500).fill(index), level: null });
  const [a, b] = await Promise.all(names.map(name => repository.storage.get(logPath(system, name))));
  await overwrite(repository, logPath(system, names[0]!), b!);
  await overwrite(repository, logPath(system, names[1]!), a!);
  for (const name of names)
    await expect(getLogFile(repository, system, name)).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('two frames of one object that change places - are refused', async () => {
  const repository = memoryRepository();
  const path = 'instances/production/packs/x/y';
  const writer = new SealedWriter({ kind: 'pack', path, keyring: repository.keyring, level: null });
  for (const fill of [1, 2]) writer.addFrame(new Uint8Array(100).fill(fill));
  writer.finish({ files: [] });
  const bytes = writer.take().slice();
  const length = 117;
  const swapped = bytes.slice();
  swapped.set(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length), HEADER_BYTES + length);
  swapped.set(bytes.subarray(HEADER_BYTES + length, HEADER_BYTES + 2 * length), HEADER_BYTES);
  await repository.storage.put(path, swapped);
  const object = await openSealed(repository.storage, { path, kind: 'pack', keyring: repository.keyring });
  await expect(collect(frameBodies(repository.storage, object!))).rejects.toMatchObject({
    code: 'CORRUPT',
  });
});

test('any frames - come back in order, whatever is read at once, and the same from bytes at hand', async () => {
  const repository = memoryRepository();
  const path = 'instances/production/packs/x/y';
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.integer({ min: 0, max: 70_000 }).map(size => new Uint8Array(size)),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(body, { maxLength: 90 }),
      fc.integer({ min: 1, max: 5000 }),
      async (bodies, batchBytes) => {
        const writer = new SealedWriter({
          kind: 'pack',
          path,
          keyring: repository.keyring,
          level: 1,
          buffer: new Uint8Array(64),
        });
        const frames = bodies.map((each, index) => writer.addFrame(each, [index]));
        writer.finish({ fact: 'kept' });
        const bytes = writer.take().slice();
        expect(writer.sizeBytes).toBe(bytes.length);
        await overwrite(repository, path, bytes);
        const target = { path, kind: 'pack', keyring: repository.keyring } as const;
        const object = await openSealed(repository.storage, target);
        const read = await collect(frameBodies(repository.storage, object!, { batchBytes }));
        expect(read.map(each => Buffer.from(each).toString('hex'))).toEqual(
          bodies.map(each => Buffer.from(each).toString('hex')),
        );
        expect(object!.footer['fact']).toBe('kept');
        expect(object!.footer.frames.map(([, , index]) => index)).toEqual(bodies.map((_, index) => index));
        let offset = HEADER_BYTES;
        for (const frame of frames) {
          expect(frame.offset).toBe(offset);
          offset += frame.stored;
        }
        expect(openSealedBytes(bytes, target).footer).toEqual(object!.footer);
      },
    ),
    { numRuns: 60 },
  );
});

test('a footer longer than what one request reads - is read all the same', async () => {
  const repository = memoryRepository();
  const path = 'instances/production/packs/x/y';
  const writer = new SealedWriter({ kind: 'pack', path, keyring: repository.keyring, level: null });
  writer.addFrame(Buffer.from('content'));
  writer.finish({ noise: randomBytes(100_000).toString('base64') });
  await repository.storage.put(path, writer.take());
  const object = await openSealed(repository.storage, { path, kind: 'pack', keyring: repository.keyring });
  expect(await collect(frameBodies(repository.storage, object!))).toEqual([Buffer.from('content')]);
});

test('an object that is not there - null', async () => {
  const { storage, keyring } = memoryRepository();
  expect(await openSealed(storage, { path: 'instances/a/backups/b', kind: 'manifest', keyring })).toBeNull();
});

test.each([
  ['that compresses', (bytes: Uint8Array) => bytes.fill(7, 1000)],
  ['that does not compress', (bytes: Uint8Array) => bytes],
] as const)("frames of a megabyte %s - the bodies stay the caller's, and are read back", async (_, make) => {
  const repository = memoryRepository();
  const path = 'instances/production/packs/x/y';
  for (const level of [3, null]) {
    // Not one of the pool, and not as long as a page of memory.
    const bodies = [1024 * 1024, 1024 * 1024 - 5].map(length => make(new Uint8Array(randomBytes(length))));
    const copies = bodies.map(body => body.slice());
    const writer = new SealedWriter({ kind: 'pack', path, keyring: repository.keyring, level });
    for (const body of bodies) writer.addFrame(body);
    writer.finish({ files: [] });
    await overwrite(repository, path, writer.take());
    const object = await openSealed(repository.storage, { path, kind: 'pack', keyring: repository.keyring });
    const read = await collect(frameBodies(repository.storage, object!));
    for (const [index, copy] of copies.entries()) {
      expect(Buffer.compare(bodies[index]!, copy)).toBe(0);
      expect(Buffer.compare(read[index]!, copy)).toBe(0);
    }
  }
});
