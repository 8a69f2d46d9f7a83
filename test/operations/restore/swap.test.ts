import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
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

/** The renames that a swap makes, in their order, from a process in which nothing is really moved. */
async function observedOrder(): Promise<(readonly [string, string])[]> {
  const { stdout } = await run(process.execPath, [
    '--input-type=module',
    '-e',
    `import fs from 'node:fs/promises';
     import { syncBuiltinESMExports } from 'node:module';
     import { basename } from 'node:path';
     const moved = [];
     fs.writeFile = fs.chmod = async () => undefined;
     fs.rename = async (from, to) => void moved.push([basename(from), basename(to)]);
     syncBuiltinESMExports();
     const { swapDirectories } = await import(process.argv[1]);
     const names = ['space one', "space 'two'", 'data'];
     const moves = names.map(name => ({ live: '/r/' + name, fresh: '/r/' + name + '.fresh', kept: '/r/' + name + '.kept' }));
     await swapDirectories({ moves, startCommand: 'true', stopCommand: 'true', asideSuffix: '', scriptPath: '/r/go-back.sh' }).catch(() => undefined);
     console.log(JSON.stringify(moved));`,
    new URL('../../../src/operations/restore/swap.ts', import.meta.url).href,
  ]);
  return JSON.parse(stdout) as [string, string][];
}
