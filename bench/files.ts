import { chown, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runAs, type ServerUser } from '../src/engines/postgres/embedded-process.ts';

/** Makes a directory, and those above it, for the server's account. */
export async function makeDirectory(path: string, user: ServerUser | null): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o755 });
  if (user === null || first === undefined) return;
  await ownTree(first, user);
  await chown(path, user.uid, user.gid);
}

/** Gives everything below a path to the server's account. */
export async function ownTree(path: string, user: ServerUser | null): Promise<void> {
  if (user !== null) await run(['chown', '-R', `${user.uid}:${user.gid}`, path]);
}

export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5 });
}

/** The bytes of all files below a directory; what a link leads to does not count again. */
export async function treeBytes(path: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) sum += await treeBytes(below);
    else if (entry.isFile()) sum += (await lstat(below)).size;
  }
  return sum;
}

/** Runs a small program of the system as this program's own account. */
async function run(command: readonly [string, ...string[]]): Promise<void> {
  const [program, ...args] = command;
  const { exitCode, stderr } = await runAs(program, args, { user: null, cwd: '/' });
  if (exitCode !== 0) throw new Error(`'${command.join(' ')}' exited with ${exitCode}: ${stderr}`);
}

/**
 * Gives every contender the same start: nothing waits to be written to disk, and the files it will read are in the page
 * cache. (An empty cache cannot be had without touching the whole machine, and would measure the disk.)
 */
export async function settle(readPath: string): Promise<void> {
  await run(['sync']);
  // A server that runs removes files meanwhile.
  await run(['sh', '-c', 'find "$1" -type f -exec cat {} + > /dev/null 2>&1 || true', 'sh', readPath]);
}
