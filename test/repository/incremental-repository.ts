import { writeFileSync } from 'node:fs';
import { newKeyFile, parseKeyFile } from '../../src/crypto/key-slots.ts';
import type { BackupFacts } from '../../src/repository/manifest.ts';
import { createRepository, type Repository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/registry.ts';
import { seeded } from '../support/seeded.ts';
import { writeBackup } from './write-backup.ts';
import { writeIncrement } from './write-increment.ts';

const BLOCK = 8192;
const BACKUPS = 12;

/**
 * A repository in a directory, with a full backup and incremental ones on it that change, lengthen and shorten files; and
 * what the newest must give back. A key file opens it.
 */
export async function incrementalRepository(path: string): Promise<{
  readonly repository: Repository;
  readonly keyFile: string;
  readonly newest: BackupFacts;
  readonly files: ReadonlyMap<string, Buffer>;
}> {
  const key = newKeyFile();
  const keyFile = `${path}.key`;
  writeFileSync(keyFile, key, { mode: 0o600 });
  const secrets = [{ secret: parseKeyFile(key, keyFile), label: 'key file' }];
  const repository = await createRepository(openStorage({ kind: 'local', path }), secrets);
  const random = seeded(4711);
  const files = new Map(
    [300, 40, 0, 1].map((pages, index) => [
      `base/${16_384 + index}`,
      Buffer.alloc(pages * BLOCK, 'as it was'),
    ]),
  );
  const entries = [...files].map(([file, bytes]) => ({ path: file, bytes: Buffer.from(bytes) }));
  const full = await writeBackup(repository, [{ path: 'base', directory: true }, ...entries], { packs: 2 });
  let newest = full.backup;
  for (let round = 1; round < BACKUPS; round += 1) {
    const changed = [...files].map(([file, before]) => {
      const pages = Math.max(0, before.length / BLOCK + random(9) - 4);
      const bytes = Buffer.alloc(pages * BLOCK);
      before.copy(bytes);
      const changes: [number, Buffer][] = [];
      for (let page = 0; page < pages; page += 1) {
        if (page * BLOCK < before.length && random(20) > 0) continue;
        const content = Buffer.alloc(BLOCK, `round ${round}, page ${page}; `);
        content.copy(bytes, page * BLOCK);
        changes.push([page * BLOCK, content]);
      }
      files.set(file, bytes);
      return { path: file, sizeBytes: bytes.length, changes };
    });
    newest = await writeIncrement(repository, newest, changed);
  }
  return { repository, keyFile, newest, files };
}
