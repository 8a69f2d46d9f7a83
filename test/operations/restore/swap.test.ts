import { execFile, spawn } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import {
  goBackScript,
  type Move,
  type SwapPlan,
  swapDirectories,
} from '../../../src/operations/restore/swap.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const run = promisify(execFile);

/** A data directory with two tablespaces, each with its old state in place and its new one beside. */
async function site(root: string): Promise<SwapPlan> {
  const names = ['space one', "space 'two'", 'data'];
  const moves: Move[] = names.map(name => ({
    live: join(root, name),
    fresh: join(root, `${name}.fresh`),
    kept: join(root, `${name}.kept`),
  }));
  for (const { live, fresh } of moves) {
    await put(live, 'old');
    await put(fresh, 'new');
  }
  return {
    moves,
    startCommand: `test -d '${join(root, 'data')}' && touch '${join(root, 'started')}'`,
    stopCommand: 'false',
    scriptPath: join(root, 'go-back.sh'),
    asideSuffix: '-undone',
  };
}

async function put(directory: string, state: string): Promise<void> {
  await mkdir(directory);
  await writeFile(join(directory, 'state'), state);
}

async function states({ moves }: SwapPlan): Promise<(string | null)[]> {
  return Promise.all(moves.map(({ live }) => readFile(join(live, 'state'), 'utf8').catch(() => null)));
}

test('a swap - everything is new, and the script brings back everything old, even run twice', async () => {
  await using root = await temporaryDirectory();
  const plan = await site(root.path);
  await swapDirectories(plan);
  expect(await states(plan)).toEqual(['new', 'new', 'new']);
  for (let times = 0; times < 2; times += 1) {
    await run('/bin/sh', [plan.scriptPath]);
    expect(await states(plan)).toEqual(['old', 'old', 'old']);
  }
  expect(await readdir(root.path)).toContain('data.kept-undone');
  expect(await readdir(root.path)).toContain('started');
});

test('a directory that cannot be moved - everything is where it was', async () => {
  for (const failing of [0, 1, 2]) {
    await using root = await temporaryDirectory();
    const plan = await site(root.path);
    await rm(plan.moves[failing]!.fresh, { recursive: true });
    await expect(swapDirectories(plan)).rejects.toMatchObject({ code: 'FILE_FAILED' });
    expect(await states(plan)).toEqual(['old', 'old', 'old']);
  }
});

test('cut short after any of its moves - no data directory stands over tablespaces of another state, and the script works', async () => {
  const order = await observedOrder();
  expect(order.length).toBe(6);
  for (let done = 0; done <= order.length; done += 1) {
    await using root = await temporaryDirectory();
    const plan = await site(root.path);
    await writeFile(plan.scriptPath, goBackScript(plan));
    for (const [from, to] of order.slice(0, done)) await rename(join(root.path, from), join(root.path, to));
    const [one, two, data] = await states(plan);
    if (data !== null) expect([done, one, two]).toEqual([done, data, data]);
    await run('/bin/sh', [plan.scriptPath]);
    expect(await states(plan)).toEqual(['old', 'old', 'old']);
  }
});

test('each move is on the disk before the next one, and the script before all of them', async () => {
  const calls = await observedCalls();
  const [first] = calls.filter(([what]) => what === 'move');
  const before = calls.slice(0, calls.indexOf(first!));
  expect(before.map(([, path]) => path)).toEqual(['/r/go-back.sh', '/r']);
  for (const [index, [what, from, to]] of calls.entries()) {
    if (what !== 'move') continue;
    const next = calls.findIndex(([kind], at) => at > index && kind === 'move');
    const synced = calls.slice(index, next < 0 ? undefined : next).filter(([kind]) => kind === 'sync');
    for (const path of [from, to]) expect(synced.map(each => each[1])).toContain(dirname(path!));
  }
});

test('a server that runs in the data directory - nothing is exchanged', async () => {
  await using root = await temporaryDirectory();
  const plan = await site(root.path);
  const data = plan.moves.at(-1)!;
  const server = spawn('sleep', ['60'], { cwd: data.live });
  try {
    await writeFile(join(data.live, 'postmaster.pid'), `${server.pid}\n${data.live}\n`);
    await expect(swapDirectories(plan)).rejects.toMatchObject({ code: 'TARGET_RUNNING' });
    expect(await states(plan)).toEqual(['old', 'old', 'old']);
  } finally {
    server.kill();
  }
});

/** The renames that a swap makes, in their order. */
async function observedOrder(): Promise<(readonly [string, string])[]> {
  const moves = (await observedCalls()).filter(([what]) => what === 'move');
  return moves.map(([, from, to]) => [basename(from!), basename(to!)] as const);
}

/** What a swap moves and flushes, in its order, from a process in which nothing is really moved. */
async function observedCalls(): Promise<string[][]> {
  const { stdout } = await run(process.execPath, [
    '--input-type=module',
    '-e',
    `import fs from 'node:fs/promises';
     import { syncBuiltinESMExports } from 'node:module';
     const calls = [];
     fs.writeFile = fs.chmod = async () => undefined;
     fs.rename = async (from, to) => void calls.push(['move', from, to]);
     fs.open = async path => ({ sync: async () => void calls.push(['sync', path]), close: async () => undefined });
     syncBuiltinESMExports();
     const { swapDirectories } = await import(process.argv[1]);
     const names = ['space one', "space 'two'", 'data'];
     const moves = names.map(name => ({ live: '/r/' + name, fresh: '/r/beside/' + name + '.fresh', kept: '/r/' + name + '.kept' }));
     await swapDirectories({ moves, startCommand: 'true', stopCommand: 'true', asideSuffix: '', scriptPath: '/r/go-back.sh' }).catch(() => undefined);
     console.log(JSON.stringify(calls));`,
    new URL('../../../src/operations/restore/swap.ts', import.meta.url).href,
  ]);
  return JSON.parse(stdout) as string[][];
}
