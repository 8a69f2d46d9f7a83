import { createHash } from 'node:crypto';
import { cpSync, existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { runCommand } from '../../src/base/run-command.ts';
import { newKeyFile, parseKeyFile } from '../../src/crypto/key-slots.ts';
import { putLogFile, putLogPart } from '../../src/repository/log-archive.ts';
import { createRepository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/registry.ts';
import { goldenRepository } from '../golden/golden-repository.ts';
import { incrementalRepository } from '../repository/incremental-repository.ts';
import { writeBackup } from '../repository/write-backup.ts';
import { temporaryDirectory } from '../support/temp.ts';

/** A size of segments that PostgreSQL knows. */
const SEGMENT = 1024 * 1024;

interface FileFacts {
  readonly size: number;
  readonly mode: number;
  readonly sha256: string;
}

const script = fileURLToPath(new URL('../../tools/restore.py', import.meta.url));
const golden = goldenRepository(1);
const python = '/usr/bin/python3';
const problem = await pythonProblem();

/** Why the decoder cannot run here; as root on Debian what it needs is installed first. */
async function pythonProblem(): Promise<string | null> {
  if (!existsSync(python)) return `there is no ${python}`;
  const imports = [python, '-c', 'import sys, cryptography, zstandard; sys.exit(sys.version_info < (3, 11))'];
  if ((await runCommand(imports)).exitCode === 0) return null;
  const packages = ['python3-cryptography', 'python3-zstandard'];
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    const options = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120'];
    await runCommand(['/usr/bin/apt-get', 'install', ...options, ...packages], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeoutMs: 240_000,
    });
    if ((await runCommand(imports)).exitCode === 0) return null;
  }
  return `${python} lacks ${packages.join(' or ')}, or is older than 3.11: apt-get install ${packages.join(' ')}`;
}

const { path: repository, keyFile } = golden;

interface Run {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function decode(args: readonly string[], passphrase = golden.passphrase): Promise<Run> {
  return runCommand([python, script, ...args], {
    env: { PATH: '/usr/bin:/bin', AISHELL_SECRET: passphrase },
  });
}

interface Tree {
  readonly directories: Record<string, { readonly mode: number }>;
  readonly files: Record<string, FileFacts>;
}

/** What must be there: the backup's files, its directories and those above them, and the log in pg_wal. */
function expectedTree(backup: (typeof golden.backups)[number]): Tree {
  const files: Tree['files'] = { ...backup.files };
  for (const [name, facts] of Object.entries(backup.log)) {
    if (!name.endsWith('.backup')) files[`pg_wal/${name.replace(/\.partial$/, '')}`] = facts;
  }
  const directories: Tree['directories'] = { ...backup.directories };
  for (const path of [...Object.keys(files), ...Object.keys(directories)]) {
    for (let above = dirname(path); above !== '.'; above = dirname(above))
      directories[above] ??= { mode: 0o700 };
  }
  return { directories, files };
}

/** What is there: tablespaces were put beside the data directory. */
function readRestored(target: string): Tree {
  const [data, spaces] = [readTree(target), readTree(`${target}.tablespaces`, 'pg_tblspc/')];
  return {
    directories: { ...data.directories, ...spaces.directories },
    files: { ...data.files, ...spaces.files },
  };
}

/** Everything below a directory, with `prefix` before its path. */
function readTree(root: string, prefix = ''): Tree {
  const tree: Tree = { directories: {}, files: {} };
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mode, size } = lstatSync(path);
    const name = `${prefix}${relative(root, path)}`;
    if (entry.isDirectory()) tree.directories[name] = { mode: mode & 0o7777 };
    else tree.files[name] = { size, mode: mode & 0o7777, sha256: sha256(path) };
  }
  return tree;
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** A copy of the golden repository with one object changed. */
function changed(directory: string, path: string, change: (bytes: Buffer) => Buffer): string {
  const copy = join(directory, 'repository');
  cpSync(repository, copy, { recursive: true });
  writeFileSync(join(copy, path), change(readFileSync(join(copy, path))));
  return copy;
}

function objects(): string[] {
  return readdirSync(repository, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(repository, join(entry.parentPath, entry.name)));
}

const title = `the decoder in Python${problem === null ? '' : `: SKIPPED, ${problem}`}`;
describe.skipIf(problem !== null)(title, { timeout: 60_000 }, () => {
  const withKeyFile = ['--key-file', keyFile];
  const withPassphrase = ['--passphrase-env', 'AISHELL_SECRET'];
  const latest = golden.backups.at(-1);

  for (const backup of golden.backups) {
    for (const [how, secret] of Object.entries({ 'key file': withKeyFile, passphrase: withPassphrase })) {
      it(`backup ${backup.id} of the golden repository, by ${how} - every file byte by byte`, async () => {
        await using directory = await temporaryDirectory();
        const target = join(directory.path, 'restored');
        const run = await decode([repository, golden.instance, backup.id, target, ...secret]);
        expect(run).toMatchObject({ exitCode: 0, stderr: '' });
        expect(run.stdout).toContain('recovery.signal');
        const [restored, wanted] = [readRestored(target), expectedTree(backup)];
        const map = 'tablespace_map';
        if (map in wanted.files) {
          // The one file that is not as it was: it leads to where the tablespaces are now.
          const spaces = readdirSync(`${target}.tablespaces`);
          expect(readFileSync(join(target, map), 'utf8').trimEnd().split('\n').sort()).toEqual(
            spaces.map(oid => `${oid} ${target}.tablespaces/${oid}`).sort(),
          );
          delete restored.files[map];
          delete wanted.files[map];
        }
        expect(restored).toEqual(wanted);
        const config = readTree(`${target}.config`).files;
        for (const [name, { source, ...facts }] of Object.entries(backup.config)) {
          expect(config[name], name).toEqual(facts);
          expect(run.stdout).toContain(`${target}.config/${name} was ${source}`);
        }
        expect(Object.keys(config).length).toBe(Object.keys(backup.config).length);
      });
    }
  }

  it('list - every backup, oldest first; latest is the last of them', async () => {
    const run = await decode([repository, golden.instance, 'list', ...withKeyFile]);
    expect(run.stdout.trim().split('\n')).toEqual(golden.backups.map(backup => backup.id));
    await using directory = await temporaryDirectory();
    const target = join(directory.path, 'restored');
    const restored = await decode([repository, golden.instance, 'latest', target, ...withKeyFile]);
    expect(restored.stdout).toContain(`Restored ${latest?.id} into ${target}`);
  });

  it('pieces of segments - joined up to a hole; a whole segment wins over them, and they over a .partial', async () => {
    await using directory = await temporaryDirectory();
    const made = await repositoryWithPieces(join(directory.path, 'made'));
    const target = join(directory.path, 'restored');
    const run = await decode([made.path, 'production', 'latest', target, '--key-file', made.keyFile]);
    expect(run).toMatchObject({ exitCode: 0, stderr: '' });
    for (const [name, bytes] of Object.entries(made.log))
      expect(Buffer.compare(readFileSync(join(target, 'pg_wal', name)), bytes), name).toBe(0);
    expect(readdirSync(join(target, 'pg_wal')).sort()).toEqual(Object.keys(made.log).sort());
  });

  it('a wrong passphrase - refused, nothing written', async () => {
    await using directory = await temporaryDirectory();
    const target = join(directory.path, 'restored');
    const run = await decode([repository, golden.instance, 'latest', target, ...withPassphrase], 'another');
    expect(run).toMatchObject({ exitCode: 1, stdout: '' });
    expect(run.stderr).toContain("opens none of the repository's key slots");
    expect(existsSync(target)).toBe(false);
  });

  it('a target with something in it - refused, left as it is', async () => {
    await using directory = await temporaryDirectory();
    writeFileSync(join(directory.path, 'mine'), 'x');
    const run = await decode([repository, golden.instance, 'latest', directory.path, ...withKeyFile]);
    expect(run.exitCode).toBe(1);
    expect(run.stderr).toContain('is not empty');
    expect(readdirSync(directory.path)).toEqual(['mine']);
  });

  it('repository of a newer format, or with an unknown feature - refused', async () => {
    for (const change of [{ format: 2 }, { features: ['deduplication'] }]) {
      await using directory = await temporaryDirectory();
      const copy = changed(directory.path, 'repository.json', bytes =>
        Buffer.from(JSON.stringify({ ...JSON.parse(bytes.toString('utf8')), ...change })),
      );
      const target = join(directory.path, 'restored');
      const run = await decode([copy, golden.instance, 'latest', target, ...withKeyFile]);
      expect(run.exitCode).toBe(1);
      expect(run.stderr).toMatch(/format 2|deduplication/);
      expect(existsSync(target)).toBe(false);
    }
  });

  const sealed = objects().filter(path => /\/(backups|packs)\//.test(path));
  const damages: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
    ['a bit flipped in the middle', bytes => flip(bytes, bytes.length >> 1)],
    ['a feature flag set', bytes => flip(bytes, 16)],
    ['the end cut off', bytes => bytes.subarray(0, -1)],
    ['a byte behind the end', bytes => Buffer.concat([bytes, Buffer.alloc(1)])],
  ];
  for (const path of sealed.filter(path => path.includes(latest?.id ?? ''))) {
    it(`${path.replace(/^.*\/(backups|packs)\//, '$1/')} damaged - refused, no file written`, async () => {
      for (const [what, change] of damages) {
        await using directory = await temporaryDirectory();
        const copy = changed(directory.path, path, change);
        const target = join(directory.path, 'restored');
        const run = await decode([copy, golden.instance, latest?.id ?? '', target, ...withKeyFile]);
        expect(run, what).toMatchObject({ exitCode: 1, stdout: '' });
        expect(run.stderr, what).toContain(path);
        expect(existsSync(target) ? readdirSync(target) : [], what).toEqual([]);
      }
    });
  }

  it('the newest of many incremental backups - every file as it was last, from frames of all of them', async () => {
    await using directory = await temporaryDirectory();
    const target = join(directory.path, 'restored');
    const made = await incrementalRepository(join(directory.path, 'repository'));
    const { instance, id } = made.newest;
    const args = [join(directory.path, 'repository'), instance, id, target, '--key-file', made.keyFile];
    expect(await decode(args)).toMatchObject({ exitCode: 0, stderr: '' });
    for (const [name, bytes] of made.files)
      expect(readFileSync(join(target, name)).equals(bytes), name).toBe(true);
  });

  it('its size - under 200 lines, so that it can be read in one sitting', () => {
    expect(readFileSync(script, 'utf8').trimEnd().split('\n').length).toBeLessThan(200);
  });
});

/** A repository with a backup and a log of which some segments are there in pieces; and what must come out of it. */
async function repositoryWithPieces(
  path: string,
): Promise<{ readonly path: string; readonly keyFile: string; readonly log: Record<string, Uint8Array> }> {
  const key = newKeyFile();
  const keyFileOfIt = `${path}.key`;
  writeFileSync(keyFileOfIt, key, { mode: 0o600 });
  const made = await createRepository(openStorage({ kind: 'local', path }), [
    { secret: parseKeyFile(key, keyFileOfIt), label: 'key file' },
  ]);
  const own = '00000001000000000000001F';
  const bytesOf = (seed: number): Uint8Array => {
    const bytes = new Uint8Array(SEGMENT).map((_, index) => (index * seed + (index >>> 8)) & 0xff);
    new DataView(bytes.buffer).setUint32(32, SEGMENT, true);
    return bytes;
  };
  const { backup } = await writeBackup(
    made,
    [
      { path: 'pg_wal', directory: true },
      { path: 'backup_label', bytes: Buffer.from('START WAL LOCATION') },
      { path: `pg_wal/${own}`, bytes: bytesOf(3) },
    ],
    { facts: { walSegmentSize: SEGMENT, startLsn: '0/1F00028', stopLsn: '0/1F00100', logIncluded: true } },
  );
  const put = async (segment: string, seed: number, ranges: readonly (readonly [number, number])[]) => {
    const bytes = bytesOf(seed);
    for (const [from, to] of ranges)
      await putLogPart(made, { ...backup, segment, from, bytes: bytes.subarray(from, to), level: 3 });
    const joined = new Uint8Array(SEGMENT);
    return (reach: number): Uint8Array => {
      joined.set(bytes.subarray(0, reach));
      return joined;
    };
  };
  const name = (number: number): string => `0000000100000000000000${number.toString(16).toUpperCase()}`;
  const log: Record<string, Uint8Array> = { [own]: bytesOf(3) };
  await put(own, 5, [[0, 700]]);
  await put(name(0x20), 5, [[0, 700]]);
  log[name(0x20)] = bytesOf(7);
  await putLogFile(made, { ...backup, name: name(0x20), bytes: bytesOf(7), level: 3 });
  const joined = await put(name(0x21), 11, [
    [0, 300],
    [300, 4096],
    [0, 2000],
    [4000, 9000],
    [9001, 9500],
  ]);
  log[name(0x21)] = joined(9000);
  await putLogFile(made, { ...backup, name: `${name(0x21)}.partial`, bytes: bytesOf(13), level: 3 });
  await put(name(0x22), 17, [[5, 900]]);
  await putLogFile(made, { ...backup, name: `${name(0x22)}.partial`, bytes: bytesOf(19), level: 3 });
  log[name(0x22)] = bytesOf(19);
  return { path, keyFile: keyFileOfIt, log };
}

function flip(bytes: Buffer, offset: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[offset] = (copy[offset] ?? 0) ^ 1;
  return copy;
}
