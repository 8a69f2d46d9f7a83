import { execFileSync } from 'node:child_process';
import {
  chown,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newKeyFile } from '../../src/crypto/key-slots.ts';
import type { VerifyReport } from '../../src/operations/verify/verify-backups.ts';
import type { BackupFacts } from '../../src/repository/manifest.ts';
import { type CliResult, runCli } from '../support/cli.ts';
import { failureOf, openCopy, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

let cluster: TestCluster;
let instance: TestInstance;
/** Two of them, oldest first. */
let backups: readonly BackupFacts[];
/** The repository as it was written; each test has a copy of it to spoil. */
let pristine: string;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18, walSegmentSizeMb: 1 });
  instance = await protect(cluster);
  await cluster.query(
    'create table orders as select n as id, md5(n::text) as code from generate_series(1, 2000) n',
  );
  const first = (await instance.backup()).backup!;
  await cluster.query("insert into orders select n, 'later' from generate_series(2001, 3000) n");
  const second = (await instance.backup()).backup!;
  backups = [first, second];
  for (let id = 3001; id <= 3003; id += 1) {
    await cluster.query("insert into orders values ($1, 'last')", [id]);
    await cluster.query('select pg_switch_wal()');
  }
  // A stopped server has archived everything, and nothing changes the repository any more but the tests.
  await cluster.stop();
  const config = await readFile(instance.configFile, 'utf8');
  await writeFile(
    instance.configFile,
    config.replace(
      /^( +)connection: .*$/m,
      `$&\n$1data_directory: ${cluster.dataDirectory}\n$1binaries: ${cluster.binaries.binDirectory}`,
    ),
  );
  pristine = instance.path('pristine');
  await rename(instance.repository, pristine);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** The repository once more as it was. */
async function freshRepository(): Promise<void> {
  await rm(instance.repository, { recursive: true, force: true });
  execFileSync('cp', ['-a', pristine, instance.repository]);
}

/** The keys of the repository's objects. */
async function objects(): Promise<string[]> {
  const entries = await readdir(pristine, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => entry.isFile())
    .map(entry => relative(pristine, join(entry.parentPath, entry.name)))
    .toSorted();
}

const at = (key: string): string => join(instance.repository, key);

async function flip(key: string, offset: number): Promise<void> {
  const bytes = await readFile(at(key));
  const index = offset < 0 ? bytes.length + offset : offset;
  bytes[index] = bytes[index]! ^ 1;
  await writeFile(at(key), bytes);
}

async function swap(key: string, other: string): Promise<void> {
  await rename(at(key), at('swapped'));
  await rename(at(other), at(key));
  await rename(at('swapped'), at(other));
}

type Damage = readonly [what: string, work: (key: string, other: string) => Promise<unknown>];

const sealed: readonly Damage[] = [
  ['its header flipped', key => flip(key, 30)],
  ['a reserved byte of its header flipped', key => flip(key, 11)],
  ['its first frame flipped', key => flip(key, 60)],
  ['its footer flipped', key => flip(key, -20)],
  ['the length of its footer flipped', key => flip(key, -12)],
  ['its trailer flipped', key => flip(key, -1)],
  ['half of it gone', async key => truncate(at(key), Math.floor((await stat(at(key))).size / 2))],
  ['nothing in it', key => truncate(at(key), 0)],
  ['a byte behind it', async key => writeFile(at(key), '\0', { flag: 'a' })],
  ['another one in its place', swap],
];
const removed: Damage = ['itself removed', key => rm(at(key))];

/** What a verification says, whatever it found. */
function reportOf(done: CliResult): VerifyReport {
  const last = done.json.at(-1);
  if (last?.type !== 'result')
    throw new Error(`no report: exit ${done.exitCode}\n${done.stdout}\n${done.stderr}`);
  return last.result as VerifyReport;
}

/** The damaged object must be named, and the exit code says so. */
async function expectFound(key: string, what: string): Promise<void> {
  const done = await instance.run(['backup', 'verify', '--all']);
  expect(done.exitCode, `${what}\n${done.stdout}${done.stderr}`).toBe(9);
  expect(
    reportOf(done).problems.map(({ object }) => object),
    what,
  ).toContain(key);
}

let targets = 0;

/** Restores the newest state into a new directory; null when that was refused, and then the directory is not there. */
async function restoreLatest(): Promise<{ readonly done: CliResult; readonly target: string | null }> {
  targets += 1;
  const target = instance.path(`copy-${targets}`);
  const done = await instance.run(['backup', 'restore', '--latest', '--target', target]);
  if (done.exitCode === 0 || done.exitCode === 3) return { done, target };
  expect(await stat(target).catch(() => null), done.stdout).toBeNull();
  return { done, target: null };
}

/** A restore that goes through in spite of the damage brings back everything, or it had to be refused. */
async function expectWhole({ done, target }: Awaited<ReturnType<typeof restoreLatest>>): Promise<void> {
  expect(target, `${done.stdout}${done.stderr}`).not.toBeNull();
  const report = done.json.at(-1)?.result as Parameters<typeof openCopy>[1];
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  const { rows } = await client.query(
    "select count(*)::int, count(*) filter (where code = 'last')::int as last from orders",
  );
  await client.end();
  expect(rows).toEqual([{ count: 3003, last: 3 }]);
}

async function expectRefused(
  outcome: ReturnType<typeof restoreLatest>,
  codes: readonly string[],
  what: string,
): Promise<void> {
  const { done, target } = await outcome;
  expect(target, `${what}\n${done.stdout}`).toBeNull();
  const { code, message, hint } = failureOf(done);
  expect(codes, `${what}: ${message}`).toContain(code);
  expect(`${message} ${hint}`.length, what).toBeGreaterThan(40);
}

test('nothing damaged - verified, and restored whole', async () => {
  await freshRepository();
  expect(resultOf<VerifyReport>(await instance.run(['backup', 'verify', '--all']))).toMatchObject({
    problems: [],
    logGaps: [],
  });
  await expectWhole(await restoreLatest());
});

test('a pack - every damage is found, and a restore never uses what is not as it was', async () => {
  const packs = (await objects()).filter(key => key.includes(`/packs/${backups[1]!.id}/`));
  const other = (await objects()).find(key => key.includes(`/packs/${backups[0]!.id}/`))!;
  for (const [what, damage] of [...sealed, removed]) {
    await freshRepository();
    await damage(packs[0]!, other);
    await expectFound(packs[0]!, what);
    // Frames are opened one by one, by the manifest: what is wrong elsewhere in a pack does not keep them from it.
    if (/header|footer|trailer/.test(what)) continue;
    await expectRefused(restoreLatest(), ['CORRUPT'], what);
  }
  await freshRepository();
  for (const [offset, key] of packs.entries()) await flip(key, offset % 2 === 0 ? -20 : 30);
  await expectWhole(await restoreLatest());
});

test('a manifest - every damage is found, listed, and the other backup restores instead of it', async () => {
  const [other, key] = backups.map(({ id, instance: name }) => `instances/${name}/backups/${id}`) as [
    string,
    string,
  ];
  for (const [what, damage] of sealed) {
    await freshRepository();
    await damage(key, other);
    await expectFound(key, what);
    const { backups: list } = resultOf<{ backups: { id: string; status: string }[] }>(
      await instance.run(['backup', 'list']),
    );
    // The list reads what a manifest's footer says, not the files after it.
    const status = what.includes('frame') ? 'valid' : 'damaged';
    expect(list.find(({ id }) => id === backups[1]!.id)?.status, what).toBe(status);
    const byId = ['backup', 'restore', '--backup-id', backups[1]!.id, '--target', instance.path('never')];
    expect((await instance.run(byId)).exitCode, what).not.toBe(0);
    expect(await stat(instance.path('never')).catch(() => null), what).toBeNull();
  }
  await freshRepository();
  await flip(key, 60);
  // Found before anything is done, for in place that is while the server still runs.
  const refused = restoreLatest();
  await expectRefused(refused, ['CORRUPT'], 'the files it lists');
  expect((await refused).done.stdout).not.toContain('restore-files');
  await freshRepository();
  await flip(key, 30);
  const restored = await restoreLatest();
  expect(restored.done.exitCode).toBe(3);
  expect(restored.done.stdout).toContain('passed over');
  await expectWhole(restored);
  await flip(other, 30);
  await expectRefused(restoreLatest(), ['CORRUPT'], 'both damaged');
  await freshRepository();
  await rm(at(key));
  const list = await instance.run(['backup', 'list']);
  expect(list.stdout).not.toContain(backups[1]!.id);
  expect((await instance.run(['backup', 'verify', '--all'])).exitCode).toBe(0);
});

test('a log segment - every damage is found, and the restore that needs it is refused', async () => {
  const log = (await objects()).filter(key => /\/log\/.*\/[0-9A-F]{24}$/.test(key));
  const [key, other] = [log.at(-2)!, log.at(-3)!];
  for (const [what, damage] of sealed) {
    await freshRepository();
    await damage(key, other);
    await expectFound(key, what);
    await expectRefused(restoreLatest(), ['CORRUPT', 'UNSUPPORTED'], what);
  }
  await freshRepository();
  await rm(at(key));
  const done = await instance.run(['backup', 'verify', '--all']);
  expect(done.exitCode).toBe(3);
  expect(reportOf(done).logGaps).toEqual([key.slice(-24)]);
  // The stopped server still has that segment: a restore takes it from there.
  const kept = join(cluster.dataDirectory, 'pg_wal', key.slice(-24));
  await expectWhole(await restoreLatest());
  await rename(kept, instance.path('kept'));
  await freshRepository();
  await rm(at(key));
  await expectRefused(restoreLatest(), ['TARGET_UNREACHABLE'], 'a hole in the log');
  await rename(instance.path('kept'), kept);
});

test('a log segment that a backup needs, removed - found, and no restore uses that backup', async () => {
  const log = (await objects())
    .filter(key => /\/log\/.*\.backup$/.test(key))
    .map(key => key.replace(/\.[0-9A-F]{8}\.backup$/, ''));
  await freshRepository();
  await rm(at(log.at(-1)!));
  await expectFound(log.at(-1)!, 'removed');
  await expectRefused(restoreLatest(), ['TARGET_UNREACHABLE'], 'without the log of the backup');
});

test('the identity - every damage is found; a restore needs it no more than it must', async () => {
  const [key] = (await objects()).filter(each => each.includes('/identity/')) as [string];
  const other = (await objects()).find(each => each.includes('/backups/'))!;
  for (const [what, damage] of [...sealed, removed]) {
    await freshRepository();
    await damage(key, other);
    await expectFound(key, what);
  }
  await freshRepository();
  await flip(key, 30);
  const outcome = await restoreLatest();
  if (outcome.target === null) expect(failureOf(outcome.done).code).toBe('CORRUPT');
  else await expectWhole(outcome);
});

test('repository.json - every damage refuses verification and restore, and names it', async () => {
  const key = 'repository.json';
  const text = await readFile(join(pristine, key), 'utf8');
  const damages: readonly (readonly [string, string | null, readonly string[]])[] = [
    ['cut off', text.slice(0, -20), ['CORRUPT']],
    ['empty', '', ['CORRUPT']],
    ['extended', `${text}x`, ['CORRUPT']],
    ['another id', text.replace(/"id": "./, '"id": "x'), ['CORRUPT']],
    [
      'the id of another repository',
      text.replace(/"id": "[0-9a-f]{32}"/, `"id": "${'0'.repeat(32)}"`),
      ['KEY_WRONG'],
    ],
    ['a newer format', text.replace('"format": 1', '"format": 2'), ['UNSUPPORTED']],
    ['removed', null, ['REPOSITORY_NOT_FOUND']],
  ];
  for (const [what, content, codes] of damages) {
    await freshRepository();
    if (content === null) await rm(at(key));
    else await writeFile(at(key), content);
    const { code, message } = failureOf(await instance.run(['backup', 'verify', '--all']));
    expect(codes, `${what}: ${message}`).toContain(code);
    await expectRefused(restoreLatest(), codes, what);
  }
});

test('a key slot - the other one opens, a damaged one is found; without any nothing opens', async () => {
  const slots = (await objects()).filter(key => key.startsWith('keys/'));
  const kinds = await Promise.all(
    slots.map(async key => JSON.parse(await readFile(join(pristine, key), 'utf8')).kind as string),
  );
  const [own, spare] = [slots[kinds.indexOf('key-file')]!, slots[kinds.indexOf('passphrase')]!];
  for (const [what, damage] of [
    ['flipped', (key: string) => flip(key, 0)],
    ['cut off', (key: string) => truncate(at(key), 100)],
    ['extended', (key: string) => writeFile(at(key), '}', { flag: 'a' })],
  ] as const) {
    await freshRepository();
    await damage(spare);
    await expectFound(spare, what);
    await freshRepository();
    await damage(own);
    const { exitCode, message } = failureOf(await instance.run(['backup', 'verify', '--all']));
    expect(exitCode, what).toBe(9);
    expect(message, what).toContain(own);
    await expectRefused(restoreLatest(), ['CORRUPT'], what);
  }
  await freshRepository();
  await swap(own, spare);
  expect((await instance.run(['backup', 'verify', '--all'])).exitCode).toBe(0);
  await rm(at(own));
  expect((await instance.run(['backup', 'verify', '--all'])).exitCode).toBe(0);
  await rm(at(spare));
  await expectRefused(restoreLatest(), ['KEY_WRONG'], 'no slot');
});

test('another key file - KEY_WRONG, exit 9, nothing restored', async () => {
  await freshRepository();
  const keyFile = instance.init.keyFile!;
  const { uid, gid } = await stat(keyFile);
  await copyFile(keyFile, `${keyFile}.right`);
  await writeFile(keyFile, newKeyFile());
  for (const args of [['verify', '--all'], ['list']]) {
    const failure = failureOf(await instance.run(['backup', ...args]));
    expect(failure).toMatchObject({ exitCode: 9, code: 'KEY_WRONG' });
    expect(failure.hint).toContain('key');
  }
  await expectRefused(restoreLatest(), ['KEY_WRONG'], 'another key');
  await copyFile(`${keyFile}.right`, keyFile);
  await chown(keyFile, uid, gid);
  expect((await instance.run(['backup', 'list'])).exitCode).toBe(0);
});

test('a wrong passphrase - KEY_WRONG, exit 9; the one of the recovery kit opens', async () => {
  await freshRepository();
  const configFile = instance.path('with-passphrase.yaml');
  const config = await readFile(instance.configFile, 'utf8');
  await writeFile(configFile, config.replace(/^( +)file: .*$/m, '$1passphrase: env:RECOVERY'));
  const list = (passphrase: string): Promise<CliResult> =>
    runCli(['backup', 'list', '--json', '--config', configFile], { env: { RECOVERY: passphrase } });
  expect(failureOf(await list('wrong'))).toMatchObject({ exitCode: 9, code: 'KEY_WRONG' });
  expect((await list(instance.init.recoveryPassphrase!)).exitCode).toBe(0);
});

test('a repository that is full - exit 8 or 1 with a hint, and what was committed before is whole', async context => {
  if (process.geteuid?.() !== 0) return context.skip('only root mounts a small disk');
  await using full = await startTestCluster({ version: 18 });
  const place = join(full.directory, 'repository');
  await mkdir(place);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m,mode=700', 'tmpfs', place]);
  try {
    if (full.user !== null) await chown(place, full.user.uid, full.user.gid);
    const small = await protect(full, { archiving: false });
    // Without archiving a backup is good, and needs attention.
    expect((await small.run(['backup', 'create'])).exitCode).toBe(3);
    await full.query(
      "create table noise as select n, (select string_agg(sha512((n * 100 + m)::text::bytea), '') as content from generate_series(1, 20) m) from generate_series(1, 16000) n",
    );
    for (let times = 0; times < 2; times += 1) {
      const failure = failureOf(await small.run(['backup', 'create']));
      expect([
        ['STORAGE_FULL', 8],
        ['DISK_FULL', 1],
      ]).toContainEqual([failure.code, failure.exitCode]);
      expect(failure.hint).not.toBe('');
    }
    const { backups: list } = resultOf<{ backups: { status: string }[] }>(
      await small.run(['backup', 'list']),
    );
    expect(list.map(({ status }) => status)).toEqual(['valid']);
    expect(resultOf<VerifyReport>(await small.run(['backup', 'verify', '--all'])).problems).toEqual([]);
  } finally {
    execFileSync('umount', [place]);
  }
});
