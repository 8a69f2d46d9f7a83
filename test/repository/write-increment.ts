import { randomBytes } from 'node:crypto';
import { patchChunks, type StoredChunks } from '../../src/operations/backup/patch-chunks.ts';
import { CHUNK_NUMBERS, CHUNK_PACK, ChunkListBuilder } from '../../src/repository/chunk-list.ts';
import { newBackupId } from '../../src/repository/layout.ts';
import type { BackupFacts } from '../../src/repository/manifest.ts';
import { openManifest, packedLines } from '../../src/repository/manifest-reader.ts';
import { ManifestWriter } from '../../src/repository/manifest-writer.ts';
import { PACK_BUFFER_BYTES, PackWriter } from '../../src/repository/pack-writer.ts';
import type { Repository } from '../../src/repository/repository.ts';

/** What is new in a file: its size, and bytes by where they are. */
export interface ChangeToWrite {
  readonly path: string;
  readonly sizeBytes: number;
  readonly changes: readonly (readonly [at: number, bytes: Uint8Array])[];
}

/**
 * Writes an incremental backup of made-up changes with the writers that real ones use: all changes of a file in one frame,
 * everything else as the parent has it.
 */
export async function writeIncrement(
  repository: Repository,
  parent: BackupFacts,
  changed: readonly ChangeToWrite[],
): Promise<BackupFacts> {
  const { instance } = parent;
  const before = await openManifest(repository, { instance, id: parent.id });
  if (before === null) throw new Error(`there is no backup ${parent.id}`);
  const id = newBackupId(new Date(), randomBytes(3));
  const target = { instance, backupId: id, keyring: repository.keyring, level: 3 };
  const writer = new PackWriter(target, new Uint8Array(PACK_BUFFER_BYTES));
  const manifest = await ManifestWriter.create(repository, { instance, id });
  try {
    const numbers = new Map<number, number>();
    for await (const line of packedLines(repository, before)) {
      const change = line.t === 'file' ? changed.find(each => each.path === line.p) : undefined;
      if (line.t === 'dir') await manifest.add(line);
      else {
        const size = change?.sizeBytes ?? line.s;
        const news = stored(writer, { change, pack: before.packs.length });
        const chunks = patchChunks(line.chunks, news, size);
        for (let at = CHUNK_PACK; at < chunks.numbers.length; at += CHUNK_NUMBERS) {
          const pack = chunks.numbers[at]!;
          if (!numbers.has(pack)) numbers.set(pack, numbers.size);
          chunks.numbers[at] = numbers.get(pack)!;
        }
        await manifest.add({ ...line, s: size, chunks });
      }
    }
    const finished = writer.finish();
    await repository.storage.put(finished.path, finished.bytes);
    const packs = [...before.packs, finished.facts];
    const backup: BackupFacts = { ...parent, id, type: 'incremental', parent: parent.id };
    await manifest.commit(
      backup,
      [...numbers.keys()].map(pack => packs[pack]!),
    );
    return backup;
  } finally {
    await manifest.close();
  }
}

function stored(
  writer: PackWriter,
  { change, pack }: { readonly change: ChangeToWrite | undefined; readonly pack: number },
): StoredChunks {
  const frames = new ChunkListBuilder();
  if (change === undefined || change.changes.length === 0) return { frames: frames.list(), ranges: [] };
  const ranges = change.changes.flatMap(([at, bytes]) => [at, bytes.length]);
  const body = Buffer.concat(change.changes.map(([, bytes]) => bytes));
  const frame = writer.add(change.path, ranges, body);
  frames.add([frame.raw, pack, frame.number, frame.offset, frame.stored, frame.raw, 0, frame.hash]);
  return { frames: frames.list(), ranges: [ranges] };
}
