import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { newKeyFile, parseKeyFile } from '../src/crypto/key-slots.ts';
import { putIdentity } from '../src/repository/identity.ts';
import { putLogFile } from '../src/repository/log-archive.ts';
import { createRepository } from '../src/repository/repository.ts';
import { openStorage } from '../src/storage/registry.ts';
import { type DirectoryToWrite, type FileToWrite, writeBackup } from '../test/repository/write-backup.ts';

/**
 * Makes a golden repository of the current format, once: what it wrote is committed and must be readable for ever, so a
 * directory that exists is never written again. A new format version gets a new directory.
 *
 *     node scripts/make-golden.ts test/golden/format-1
 */
async function main(): Promise<void> {
  const directory = resolve(process.argv[2] ?? 'test/golden/format-1');
  await mkdir(directory);
  const keyFile = newKeyFile();
  await writeFile(join(directory, 'aishell.key'), keyFile);
  const storage = openStorage({ kind: 'local', path: join(directory, 'repository') });
  const repository = await createRepository(storage, [
    { secret: parseKeyFile(keyFile, 'aishell.key'), label: 'key file' },
    { secret: { kind: 'passphrase', passphrase }, label: 'recovery kit' },
  ]);
  const system = { instance: 'production', systemIdentifier: '7566129433051829306' };
  await putIdentity(repository, {
    ...system,
    engine: 'postgresql',
    serverVersion: 180004,
    created: '2025-10-27T14:00:00.000Z',
  });
  const { backup, packs } = await writeBackup(repository, [...directories, ...files], {
    packs: 2,
    facts: {
      id: 'backup_20251027_140532_abc123',
      name: 'before-migration',
      tablespaces: [{ oid: 16400, name: 'archive', path: '/mnt/slow/archive' }],
    },
  });
  for (const { path: name, bytes } of log) await putLogFile(repository, { ...system, name, bytes, level: 3 });
  const expected = {
    repositoryId: repository.id,
    instance: backup.instance,
    keyFile: 'aishell.key',
    passphrase,
    backups: [
      {
        id: backup.id,
        packs: packs.length,
        directories: byPath(directories, () => ({ mode: 0o700 })),
        files: byPath(
          files.filter(each => each.source === undefined),
          fileFacts,
        ),
        config: byPath(
          files.filter(each => each.source !== undefined),
          file => ({ ...fileFacts(file), source: file.source }),
        ),
        log: byPath(log, fileFacts),
      },
    ],
  };
  await writeFile(join(directory, 'expected.json'), `${JSON.stringify(expected, null, 1)}\n`);
}

function byPath<T extends { readonly path: string }>(
  entries: readonly T[],
  facts: (entry: T) => object,
): object {
  return Object.fromEntries(entries.map(entry => [entry.path, facts(entry)]));
}

function fileFacts({ bytes, mode = 0o600 }: FileToWrite): object {
  return { size: bytes.length, mode, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** With letters that have two forms in Unicode; here they are decomposed (NFD), a keyboard may give the other form. */
const passphrase = 'gru\u0308n-Ka\u0308se 42 correct horse';

const text = (content: string): Uint8Array => Buffer.from(content, 'utf8');

/** Bytes that do not compress, and are the same every time. */
function noise(sizeBytes: number, seed: string): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(sizeBytes / 32) }, (_, n) =>
    createHash('sha256').update(`${seed} ${n}`).digest(),
  );
  return new Uint8Array(Buffer.concat(blocks).subarray(0, sizeBytes));
}

/** Pages as of a table: a header, a hole, rows with some words in them. */
function pages(count: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(count * 8192);
  for (let page = 0; page < count; page += 1) {
    const view = new DataView(bytes.buffer, page * 8192, 8192);
    view.setBigUint64(0, BigInt(0x2000028 + page * 64 + seed), true);
    view.setUint16(12, 400, true);
    view.setUint16(14, 4096, true);
    bytes.set(
      text(`order ${page} of customer ${(page * 7919 + seed) % 9973}, `.repeat(120)).subarray(0, 4096),
      page * 8192 + 4096,
    );
  }
  return bytes;
}

const directories: readonly DirectoryToWrite[] = [
  'base',
  'base/1',
  'base/5',
  'global',
  'pg_notify',
  'pg_replslot',
  'pg_tblspc',
  'pg_wal',
  'pg_wal/archive_status',
  'pg_xact',
  'pg_tblspc/16400/PG_18_202506291',
  'pg_tblspc/16400/PG_18_202506291/5',
].map(path => ({ path, directory: true }));

const files: readonly FileToWrite[] = [
  { path: 'PG_VERSION', bytes: text('18\n') },
  { path: 'base/1/1259', bytes: pages(3, 1) },
  { path: 'base/1/1259_fsm', bytes: pages(1, 2) },
  { path: 'base/1/PG_VERSION', bytes: text('18\n') },
  // Longer than a frame, and not by a whole number of pages' frames: three chunks in two packs.
  { path: 'base/5/16384', bytes: pages(300, 3) },
  { path: 'base/5/16385', bytes: new Uint8Array(0) },
  // It stays as it is: compressing makes it larger.
  { path: 'base/5/16386', bytes: noise(56 * 1024, 'toast') },
  // Both kinds in one file, in chunks of their own.
  {
    path: 'base/5/16387',
    bytes: Buffer.concat([pages(4, 5), noise(32 * 1024, 'half'), pages(4, 6)]),
    chunkBytes: 32 * 1024,
  },
  { path: 'base/5/grüße und leerzeichen.txt', bytes: text('an extension may leave any name\n') },
  { path: 'global/1262', bytes: pages(1, 7) },
  { path: 'pg_tblspc/16400/PG_18_202506291/5/16401', bytes: pages(5, 8) },
  { path: 'pg_xact/0000', bytes: pages(1, 9), mode: 0o640 },
  { path: 'postgresql.auto.conf', bytes: text("archive_command = 'aishell backup wal-archive %p'\n") },
  {
    path: 'postgresql.conf',
    bytes: text('shared_buffers = 128MB\n'),
    source: '/etc/postgresql/18/main/postgresql.conf',
  },
  { path: 'pg_hba.conf', bytes: text('local all all peer\n'), source: '/etc/postgresql/18/main/pg_hba.conf' },
  {
    path: 'conf.d/memory.conf',
    bytes: text('work_mem = 64MB\n'),
    source: '/etc/postgresql/18/main/conf.d/memory.conf',
  },
  { path: 'global/pg_control', bytes: Buffer.concat([text('a control file'), new Uint8Array(8178)]) },
  {
    path: 'backup_label',
    bytes: text('START WAL LOCATION: 0/2000028 (file 000000010000000000000020)\nSTART TIMELINE: 1\n'),
  },
  { path: 'tablespace_map', bytes: text('16400 /mnt/slow/archive\n') },
];

function segment(number: number, timeline: number): Uint8Array {
  const bytes = new Uint8Array(1024 * 1024);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0006d118, true);
  view.setUint32(4, timeline, true);
  view.setBigUint64(8, BigInt(number) * 1_048_576n, true);
  view.setBigUint64(24, 7566129433051829306n, true);
  view.setUint32(32, bytes.length, true);
  view.setUint32(36, 8192, true);
  bytes.set(noise(4096, `segment ${number}`), 40);
  return bytes;
}

const log: readonly FileToWrite[] = [
  { path: '000000010000000000000020', bytes: segment(0x20, 1) },
  {
    path: '000000010000000000000020.00000028.backup',
    bytes: text('START WAL LOCATION: 0/2000028 (file 000000010000000000000020)\n'),
  },
  { path: '000000010000000000000021', bytes: segment(0x21, 1) },
  { path: '000000010000000000000022.partial', bytes: segment(0x22, 1) },
  { path: '00000002.history', bytes: text('1\t0/2240000\tno recovery target specified\n') },
  { path: '000000020000000000000022', bytes: segment(0x22, 2) },
];

await main();
