import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { buildDist } from '../../scripts/build.ts';
import { messageOf } from '../../src/base/errors.ts';
import {
  type EmbeddedBinaries,
  findEmbedded,
  prepareEmbedded,
} from '../../src/engines/postgres/embedded-binaries.ts';
import {
  chooseServerUser,
  type ServerUser,
  stopProcessesUnder,
  temporaryParent,
} from '../../src/engines/postgres/embedded-process.ts';
import { copyRuntime } from '../../src/operations/demo/runtime-copy.ts';
import { type DebianPostgres, prepareDebianPostgres } from './debian-postgres.ts';

/** What the real tests share: `inject('harness')`. */
export interface Harness {
  /** Holds everything of this run; the server's account can enter it. */
  readonly directory: string;
  /** Belongs to the server's account: HOME and working directory of what runs as it. */
  readonly home: string;
  /** The program, freshly built. A source tree that does not build still runs the tests that need servers alone. */
  readonly program: Program;
  readonly user: ServerUser | null;
  /** PostgreSQL 14 to 18, by major version. */
  readonly binaries: Readonly<Record<string, EmbeddedBinaries>>;
  readonly debian: DebianPostgres;
}

export type Program =
  /** `bin/aishell` of a copy that every account can run. */
  { readonly launcher: string } | { readonly buildError: string };

declare module 'vitest' {
  interface ProvidedContext {
    harness: Harness;
  }
}

const PREFIX = 'aishell-run-';
const root = fileURLToPath(new URL('../..', import.meta.url));

/** Builds the program, makes it and five versions of PostgreSQL ready for the server's account; undoes it at the end. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.umask(0o022);
  const user = await chooseServerUser();
  const parent = await temporaryParent(user);
  await removeAbandoned(parent);
  const directory = await mkdtemp(join(parent, PREFIX));
  const teardown = (): Promise<void> => removeRun(directory);
  try {
    await chmod(directory, 0o755);
    await writeFile(join(directory, 'owner.pid'), String(process.pid));
    const home = join(directory, 'home');
    await mkdir(home);
    if (user !== null) await chown(home, user.uid, user.gid);
    project.provide('harness', {
      directory,
      home,
      user,
      program: await prepareProgram(directory),
      binaries: await prepareServers(directory, user),
      debian: await prepareDebianPostgres(),
    });
    return teardown;
  } catch (error) {
    await teardown();
    throw error;
  }
}

async function prepareProgram(directory: string): Promise<Program> {
  const built = join(directory, 'built');
  try {
    await buildDist(built);
  } catch (error) {
    return { buildError: messageOf(error) };
  }
  const program = join(directory, 'program');
  const launcher = await copyRuntime({
    launcher: join(root, 'bin/aishell'),
    distDirectory: built,
    directory: program,
  });
  // The demo looks for PostgreSQL beside the program; a user's own install would have to fetch it.
  const installed = await findEmbedded(18);
  if (installed !== null) await symlink(installed, join(program, 'node_modules/pg18'));
  return { launcher };
}

async function prepareServers(
  directory: string,
  user: ServerUser | null,
): Promise<Record<string, EmbeddedBinaries>> {
  const binaries: Record<string, EmbeddedBinaries> = {};
  for (const version of [14, 15, 16, 17, 18]) {
    const packageDirectory = await findEmbedded(version);
    if (packageDirectory === null) {
      throw new Error(
        `PostgreSQL ${version} is missing: 'npm ci' brings it (optional dependencies, Linux on x64 only)`,
      );
    }
    binaries[version] = await prepareEmbedded({ packageDirectory, user, directory });
  }
  return binaries;
}

async function removeRun(directory: string): Promise<void> {
  await stopProcessesUnder(directory);
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
}

/** A run that was killed could not clean up: this one does it, once that run's process is gone. */
async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(parent, name);
    const pid = await readFile(join(directory, 'owner.pid'), 'utf8').catch(() => '');
    const running = pid === '' || (await readFile(`/proc/${pid}/stat`).catch(() => null)) !== null;
    // Another account's run is not ours to remove.
    if (!running) await removeRun(directory).catch(() => undefined);
  }
}
