import { randomBytes } from 'node:crypto';
import {
  type Piece,
  patchPieces,
  piecesOf,
  type SelectedFrame,
} from '../../src/operations/backup/file-pieces.ts';
import { newBackupId } from '../../src/repository/layout.ts';
import type { BackupFacts, Chunk, PackFacts } from '../../src/repository/manifest.ts';
import { manifestLines, openManifest } from '../../src/repository/manifest-reader.ts';
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
    const numbers = new Map<string, number>();
    const chunkOf = ({ frame, start, length }: Piece): Chunk => {
      const pack = numbers.get(frame.packId) ?? numbers.size;
      numbers.set(frame.packId, pack);
      return [length, pack, frame.number, frame.offset, frame.stored, frame.raw, start, frame.hash];
    };
    for await (const line of manifestLines(repository, before)) {
      const change = line.t === 'file' ? changed.find(each => each.path === line.p) : undefined;
      if (line.t === 'dir') await manifest.add(line);
      else {
        const size = change?.sizeBytes ?? line.s;
        const pieces = patchPieces(piecesOf(line.c, before.packs), stored(writer, change), size);
        await manifest.add({ ...line, s: size, c: pieces.map(chunkOf) });
      }
    }
    const finished = writer.finish();
    await repository.storage.put(finished.path, finished.bytes);
    const packs = new Map<string, PackFacts>([...before.packs, finished.facts].map(pack => [pack.id, pack]));
    const backup: BackupFacts = { ...parent, id, type: 'incremental', parent: parent.id };
    await manifest.commit(
      backup,
      [...numbers.keys()].map(pack => packs.get(pack)!),
    );
    return backup;
  } finally {
    await manifest.close();
  }
}

function stored(writer: PackWriter, change: ChangeToWrite | undefined): SelectedFrame[] {
  if (change === undefined || change.changes.length === 0) return [];
  const ranges = change.changes.flatMap(([at, bytes]) => [at, bytes.length]);
  const body = Buffer.concat(change.changes.map(([, bytes]) => bytes));
  return [{ frame: writer.add(change.path, ranges, body), ranges }];
}
