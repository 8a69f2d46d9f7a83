import { randomBytes } from 'node:crypto';
import { FRAME_BODY_BYTES, formatCompression } from '../../src/repository/compression.ts';
import { newBackupId } from '../../src/repository/layout.ts';
import type { BackupFacts, Chunk, ManifestLine, PackFacts } from '../../src/repository/manifest.ts';
import { ManifestWriter } from '../../src/repository/manifest-writer.ts';
import { PACK_BUFFER_BYTES, PackWriter } from '../../src/repository/pack-writer.ts';
import type { Repository } from '../../src/repository/repository.ts';
import { packedLine } from './packed-line.ts';

/** A file of a backup that is made up; with `source` it is a configuration file from outside the data directory. */
export interface FileToWrite {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly mode?: number;
  readonly source?: string;
  /** Length of its chunks; 1 MiB unless given. */
  readonly chunkBytes?: number;
}

export interface DirectoryToWrite {
  readonly path: string;
  readonly directory: true;
}

const LEVEL = 3;

/**
 * Writes a backup of made-up files with the writers that real backups use. Its frames go to `packs` packs in turn, so that
 * a file of several chunks lies in several packs.
 */
export async function writeBackup(
  repository: Repository,
  entries: readonly (FileToWrite | DirectoryToWrite)[],
  options: { readonly facts?: Partial<BackupFacts>; readonly packs?: number } = {},
): Promise<{ readonly backup: BackupFacts; readonly packs: readonly PackFacts[]; readonly sha256: string }> {
  const { facts = {} } = options;
  const id = facts.id ?? newBackupId(new Date(), randomBytes(3));
  const instance = facts.instance ?? 'production';
  const target = { instance, backupId: id, keyring: repository.keyring, level: LEVEL };
  const writers = Array.from(
    { length: options.packs ?? 1 },
    () => new PackWriter(target, new Uint8Array(PACK_BUFFER_BYTES)),
  );
  const manifest = await ManifestWriter.create(repository, { instance, id });
  try {
    let frames = 0;
    for (const entry of entries) {
      if ('directory' in entry) await manifest.add({ t: 'dir', p: entry.path, m: 0o700 });
      else await manifest.add(packedLine(fileLine(entry, () => frames++ % writers.length, writers)));
    }
    const packs: PackFacts[] = [];
    for (const writer of writers) {
      const finished = writer.finish();
      await repository.storage.put(finished.path, finished.bytes);
      packs.push(finished.facts);
    }
    const files = entries.filter(entry => 'bytes' in entry);
    const backup: BackupFacts = {
      ...exampleFacts,
      sizeBytes: files.reduce((sum, file) => sum + file.bytes.length, 0),
      storedBytes: packs.reduce((sum, pack) => sum + pack.sizeBytes, 0),
      fileCount: files.length,
      ...facts,
      id,
      instance,
    };
    const { sha256 } = await manifest.commit(backup, packs);
    return { backup, packs, sha256 };
  } finally {
    await manifest.close();
  }
}

function fileLine(file: FileToWrite, nextPack: () => number, writers: readonly PackWriter[]): ManifestLine {
  const chunkBytes = file.chunkBytes ?? FRAME_BODY_BYTES;
  const chunks: Chunk[] = [];
  for (let at = 0; at < file.bytes.length; at += chunkBytes) {
    const body = file.bytes.subarray(at, at + chunkBytes);
    const pack = nextPack();
    const isPages = /^(base|pg_tblspc)\/.*\/\d+(\.\d+)?$/.test(file.path);
    const frame = writers[pack]!.add(file.path, [at, body.length], body, isPages ? 'unhashed' : undefined);
    chunks.push([body.length, pack, frame.number, frame.offset, frame.stored, frame.raw, 0, frame.hash]);
  }
  const common = { p: file.path, s: file.bytes.length, m: file.mode ?? 0o600, c: chunks };
  return file.source === undefined
    ? { t: 'file', ...common }
    : { t: 'config', source: file.source, ...common };
}

/** What is known of the made-up backup, where the test does not say otherwise. */
const exampleFacts: Omit<BackupFacts, 'id' | 'instance' | 'sizeBytes' | 'storedBytes' | 'fileCount'> = {
  name: 'nightly',
  engine: 'postgresql',
  type: 'full',
  toolVersion: '0.1.0',
  serverVersion: 180004,
  systemIdentifier: '7566129433051829306',
  timeline: 1,
  startLsn: '0/2000028',
  stopLsn: '0/2000120',
  startTime: '2025-10-27T14:05:32.104211Z',
  stopTime: '2025-10-27T14:05:33.918305Z',
  blockSize: 8192,
  walSegmentSize: 1024 * 1024,
  relationSegmentBlocks: 131072,
  tablespaceVersionDirectory: 'PG_18_202506291',
  bootstrapSuperuser: 'postgres',
  pageChecksums: true,
  dataDirectory: '/var/lib/postgresql/18/main',
  tablespaces: [],
  databases: ['postgres', 'shop'],
  tables: 3,
  indexes: 2,
  estimatedRows: 12_000,
  compression: formatCompression(LEVEL),
  durationSeconds: 1.814,
  logIncluded: false,
  logArchived: true,
  damagedPages: [],
};
