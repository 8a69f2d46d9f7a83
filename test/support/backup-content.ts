import { readFile } from 'node:fs/promises';
import { parseKeyFile } from '../../src/crypto/key-slots.ts';
import { HEADER_BYTES } from '../../src/crypto/sealed-frame.ts';
import type { PackFacts } from '../../src/repository/manifest.ts';
import {
  type Manifest,
  manifestLines,
  openManifest,
  packPathOf,
} from '../../src/repository/manifest-reader.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { openFrame, openSealedBytes } from '../../src/repository/sealed-reader.ts';
import { openStorage } from '../../src/storage/registry.ts';
import type { TestInstance } from './instance.ts';

/** Opens a test's repository with its key file. */
export async function openTestRepository(instance: TestInstance): Promise<Repository> {
  const { keyFile } = instance.init;
  if (keyFile === null) throw new Error('the repository has no key file');
  const secret = parseKeyFile(await readFile(keyFile, 'utf8'), keyFile);
  return openRepository(openStorage({ kind: 'local', path: instance.repository }), secret);
}

export async function manifestOf(instance: TestInstance, id: string): Promise<Manifest> {
  const manifest = await openManifest(await openTestRepository(instance), { instance: instance.name, id });
  if (manifest === null) throw new Error(`there is no backup ${id}`);
  return manifest;
}

/** Every file of a backup, put together from its chunks. */
export async function filesOf(instance: TestInstance, id: string): Promise<Map<string, Buffer>> {
  const repository = await openTestRepository(instance);
  const manifest = await manifestOf(instance, id);
  const bodies = new Map<number, Promise<Uint8Array[]>>();
  const bodiesOf = (pack: number): Promise<Uint8Array[]> => {
    const known = bodies.get(pack) ?? openPack(repository, manifest, manifest.packs[pack]!);
    bodies.set(pack, known);
    return known;
  };
  const files = new Map<string, Buffer>();
  for await (const line of manifestLines(repository, manifest)) {
    if (line.t !== 'file') continue;
    const parts: Uint8Array[] = [];
    for (const [length, pack, number, , , , start] of line.c)
      parts.push((await bodiesOf(pack))[number]!.subarray(start, start + length));
    files.set(line.p, Buffer.concat(parts));
  }
  return files;
}

async function openPack(repository: Repository, manifest: Manifest, pack: PackFacts): Promise<Uint8Array[]> {
  const path = packPathOf(manifest, pack);
  const bytes = await repository.storage.get(path);
  if (bytes === null) throw new Error(`${path} is missing`);
  const object = openSealedBytes(bytes, { path, kind: 'pack', keyring: repository.keyring });
  let offset = HEADER_BYTES;
  return object.footer.frames.map(([stored, raw], number) => {
    const body = openFrame(object.cipher, { number, raw, path }, bytes.subarray(offset, offset + stored));
    offset += stored;
    return body;
  });
}
