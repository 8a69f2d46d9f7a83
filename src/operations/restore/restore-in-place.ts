import { cp, lchown, lstat, readdir, readlink, realpath, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, systemCode } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { connect } from '../../engines/postgres/connection.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import {
  dropConfigFolder,
  type Layout,
  makeOwned,
  markForArchiving,
  relinkTablespaces,
} from './assemble-directory.ts';
import type { Owner } from './new-files.ts';
import { type Recovered, syncDirectories } from './recover-directory.ts';
import { type Move, type SwapPlan, swapDirectories } from './swap.ts';
import { isMountPoint } from './target-directory.ts';

/** Where the new state grows and the old one is kept, on the same file systems as the live one. */
export interface InPlaceLayout {
  /** The live data directory, without symbolic links. */
  readonly dataDirectory: string;
  readonly owner: Owner;
  /** Where the backup is restored to and recovered. */
  readonly fresh: Layout;
  readonly moves: readonly Move[];
  /** The live places of tablespaces, by oid. */
  readonly tablespaces: ReadonlyMap<number, string>;
  readonly safetyPath: string;
  readonly scriptPath: string;
}

/** Settings, keys and certificates that an administrator put into the data directory: the live ones stay. */
const LIVE_FILES = /\.(conf|crt|key|pem|crl)$/;
const OPEN_TIMEOUT_MS = 120_000;

/**
 * Finds room beside the live directory: a sibling for the new state, and names for what is kept.
 *
 * @throws TARGET_UNUSABLE when the data directory is a mount point or a tablespace is not there
 */
export async function layOutInPlace(
  dataDirectory: string,
  backup: {
    readonly tablespaces: readonly { readonly oid: number }[];
    readonly tablespaceVersionDirectory: string;
  },
  stamp: string,
): Promise<InPlaceLayout> {
  const live = await realpath(dataDirectory);
  if (await isMountPoint(live)) {
    throw new AppError(
      'TARGET_UNUSABLE',
      `unable to restore in place: the data directory '${live}' is a mount point`,
      {
        hint: 'Restore beside it with --target DIR on the same or another disk, and point the server at that directory.',
      },
    );
  }
  const { uid, gid } = await stat(live);
  const safetyPath = `${live}.aishell-safety-${stamp}`;
  const freshPath = `${live}.aishell-restore-${stamp}`;
  const tablespaces = new Map<number, string>();
  const fresh = new Map<number, string>();
  const moves: Move[] = [];
  for (const { oid } of backup.tablespaces) {
    const place = await liveTablespace(live, oid);
    tablespaces.set(oid, place);
    // A tablespace is often a mount point, so the version folder inside it changes places, not the directory.
    fresh.set(oid, join(place, `aishell-restore-${stamp}`));
    const folder = backup.tablespaceVersionDirectory;
    moves.push({
      live: join(place, folder),
      fresh: join(place, `aishell-restore-${stamp}`, folder),
      kept: join(place, `aishell-safety-${stamp}`, folder),
    });
  }
  moves.push({ live, fresh: freshPath, kept: safetyPath });
  return {
    dataDirectory: live,
    owner: process.getuid?.() === 0 ? { uid, gid } : null,
    fresh: { dataDirectory: freshPath, tablespaces: fresh },
    moves,
    tablespaces,
    safetyPath,
    scriptPath: `${live}.aishell-go-back-${stamp}.sh`,
  };
}

/** Gives the recovered state what the live one has of its own: settings, the places of tablespaces, its log to archive. */
export async function adoptLiveFiles(
  layout: InPlaceLayout,
  recovered: Recovered,
  { onEvent }: RunOptions,
): Promise<void> {
  const { fresh, owner } = layout;
  await runStep(onEvent, { id: 'configure', title: 'Live configuration kept' }, async () => {
    await keepLiveFiles(layout.dataDirectory, fresh.dataDirectory, owner);
    await dropConfigFolder(fresh.dataDirectory);
    await markForArchiving(fresh.dataDirectory, recovered.newLogFiles, owner);
    await relinkTablespaces(fresh.dataDirectory, layout.tablespaces, owner);
    for (const move of layout.moves.slice(0, -1)) await makeOwned(dirname(move.kept), owner);
    await syncDirectories({ dataDirectory: fresh.dataDirectory, tablespaces: new Map() });
  });
}

/** Puts the recovered state in place of the live one and opens it. @throws TARGET_RUNNING, FILE_FAILED nothing was exchanged */
export async function putInPlace(
  layout: InPlaceLayout,
  made: { readonly context: InstanceContext; readonly service: Service },
  options: RunOptions,
): Promise<void> {
  const { service } = made;
  const { onEvent } = options;
  const swap: SwapPlan = {
    moves: layout.moves,
    startCommand: service.startCommand,
    stopCommand: service.stopCommand,
    scriptPath: layout.scriptPath,
    asideSuffix: '-undone',
  };
  await runStep(
    onEvent,
    {
      id: 'swap',
      title: 'Restored database put in place',
      detail: () => `old state kept as ${basename(layout.safetyPath)}`,
    },
    async () => {
      try {
        await swapDirectories(swap);
      } catch (error) {
        // Any other error says that it could not be undone: then the script is what is left to do.
        if (error instanceof AppError) {
          await discardFresh(layout);
          await rm(layout.scriptPath, { force: true });
        }
        throw error;
      }
    },
  );
  await runStep(
    onEvent,
    { id: 'start', title: 'Server started', detail: () => service.description },
    async () => {
      try {
        await service.start({ signal: options.signal });
        await waitUntilOpen(made.context, options.signal);
      } catch (error) {
        const way = `Bring the old state back and start it with: ${shellCommand(['sh', layout.scriptPath])}`;
        if (error instanceof AppError)
          throw new AppError(error.code, error.message, { hint: way, cause: error });
        // A cancelled run stays one; a person is told all the same.
        onEvent({ type: 'note', level: 'warning', message: way });
        throw error;
      }
    },
  );
}

/** Removes what a failed restore has left; the live state was never touched. */
export async function discardFresh(layout: InPlaceLayout): Promise<void> {
  await rm(layout.fresh.dataDirectory, { recursive: true, force: true });
  for (const place of layout.fresh.tablespaces.values()) await rm(place, { recursive: true, force: true });
}

async function liveTablespace(dataDirectory: string, oid: number): Promise<string> {
  try {
    return await realpath(await readlink(join(dataDirectory, 'pg_tblspc', String(oid))));
  } catch (error) {
    if (!['ENOENT', 'EINVAL'].includes(systemCode(error))) throw error;
    throw new AppError(
      'TARGET_UNUSABLE',
      `unable to restore in place: tablespace ${oid} of the backup is not there any more`,
      {
        hint: 'Restore into another directory with --target: there its tablespaces are put below that directory.',
        cause: error,
      },
    );
  }
}

async function keepLiveFiles(from: string, to: string, owner: Owner): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const wanted = entry.isDirectory() ? entry.name === 'conf.d' : LIVE_FILES.test(entry.name);
    if (!wanted) continue;
    const place = join(to, entry.name);
    await cp(join(from, entry.name), place, {
      recursive: true,
      preserveTimestamps: true,
      force: true,
      verbatimSymlinks: true,
    });
    if (owner !== null) await giveAll(place, owner);
  }
}

/** A copy that root makes is root's, and the server could not read it. */
async function giveAll(path: string, owner: NonNullable<Owner>): Promise<void> {
  await lchown(path, owner.uid, owner.gid);
  if (!(await lstat(path)).isDirectory()) return;
  for (const name of await readdir(path)) await giveAll(join(path, name), owner);
}

/** Waits until the instance's server takes queries that write. */
export async function waitUntilOpen(
  context: Pick<InstanceContext, 'connection'>,
  signal: AbortSignal,
): Promise<void> {
  const giveUpAt = Date.now() + OPEN_TIMEOUT_MS;
  for (;;) {
    try {
      const client = await connect(context.connection, { signal });
      const { rows } = await client
        .query<{ recovering: boolean }>('select pg_is_in_recovery() as recovering')
        .finally(() => client.end().catch(() => undefined));
      if (rows[0]?.recovering === false) return;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError) || error.code !== 'DATABASE_UNREACHABLE' || Date.now() > giveUpAt)
        throw error;
    }
    await delay(100, signal);
  }
}
