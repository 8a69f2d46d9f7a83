import { readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { type OperationEvent, runStep } from '../../base/events.ts';
import { queryRow, type Session, withConnection } from '../../engines/postgres/connection.ts';
import type { IsolatedServer } from '../../engines/postgres/isolated-server.ts';
import { stopLeftOver } from '../../engines/postgres/isolated-server-process.ts';
import { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { makeOwned } from '../restore/assemble-directory.ts';
import { type LiveInstance, locateInstance } from '../restore/live-instance.ts';
import { roomForLog } from '../restore/log-feeder.ts';
import { planRecovery, type RecoveryPlan } from '../restore/plan-restore.ts';
import { replayLog } from '../restore/replay-log.ts';
import { feedLog, restoreBackup } from '../restore/restore-and-recover.ts';
import { layoutBelow, ownerFor } from '../restore/restore-into-directory.ts';
import { checkEmptyDirectory, checkSpace } from '../restore/target-directory.ts';
import { beginReading, type RowSource } from './row-source.ts';
import { withLog } from './with-log.ts';

const MARKER = 'aishell-undo.json';

export interface SideInstanceRequest {
  readonly xid: number;
  /** The oid of the database whose rows are wanted. */
  readonly database: number;
  /** Null: beside the data directory. */
  readonly scratch: string | null;
}

/**
 * Restores a backup into a directory of its own and recovers it to just before a transaction was committed; in the end both
 * are gone. All of the backup is restored: what the log says of files that are not there would be made anew from it, in full
 * length, and a page that is missing could not be told from one that was left out.
 *
 * @throws TARGET_UNREACHABLE, BACKUP_NOT_FOUND, LOG_NOT_FOUND, SPACE_INSUFFICIENT, RECOVERY_FAILED
 */
export async function openSideInstance(
  context: InstanceContext,
  request: SideInstanceRequest,
  options: RunOptions,
): Promise<RowSource> {
  const { signal } = options;
  const live = await locateInstance(context, signal);
  const plan = await runStep(
    options.onEvent,
    {
      id: 'plan',
      title: 'Recovery beside planned',
      detail: ({ backup, logFiles }) => `from ${backup.id}, ${logFiles.length} files of the log`,
    },
    () => planBefore(context, { xid: request.xid, live }, signal),
  );
  const path = scratchPath(context, request, live);
  await checkSpace(path, plan.backupBytes + roomForLog(plan.logBytes));
  const binaries = await findBinaries(live.majorVersion, {
    configured: context.binaries,
    dataDirectory: live.dataDirectory,
  });
  await removeLeftOver(path);
  const repositoryPath = context.location.kind === 'local' ? context.location.path : null;
  await checkEmptyDirectory(path, { dataDirectory: live.dataDirectory, repositoryPath });
  const owner = await ownerFor(live, plan);
  const dataDirectory = join(path, 'data');
  try {
    await makeOwned(path, owner);
    await writeFile(
      join(path, MARKER),
      `${JSON.stringify({ instance: context.instance, xid: request.xid })}\n`,
    );
    await makeOwned(dataDirectory, owner);
    const restoring = { plan, owner, binaries, layout: layoutBelow({ path: dataDirectory }, plan) };
    // How fast the log came is for estimates of whole restores.
    const quietly = {
      signal,
      onEvent: (event: OperationEvent) => event.type !== 'facts' && options.onEvent(event),
    };
    await restoreBackup(context, restoring, quietly);
    const server = await replay(context, restoring, quietly);
    try {
      const { session, database } = await readDatabase(server, request.database, signal);
      return {
        kind: 'side instance',
        text: `${plan.backup.id}, recovered beside to just before it`,
        session,
        database,
        [Symbol.asyncDispose]: async () => {
          await session.end().catch(() => undefined);
          await server.stop('immediate');
          await rm(path, { recursive: true, force: true });
        },
      };
    } catch (error) {
      await server.stop('immediate');
      throw error;
    }
  } catch (error) {
    await rm(path, { recursive: true, force: true });
    throw systemCode(error) === '' || error instanceof AppError ? error : fileError('write', path, error);
  }
}

/** The plan to recover to just before a transaction. */
function planBefore(
  context: InstanceContext,
  { xid, live }: { readonly xid: number; readonly live: LiveInstance },
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const { timeline, systemIdentifier } = live;
  return withLog(context, signal, () =>
    planRecovery(
      context,
      { kind: 'xid', xid, after: false },
      { timeline, systemIdentifier, securedUs: null, signal },
    ),
  );
}

function scratchPath(context: InstanceContext, request: SideInstanceRequest, live: LiveInstance): string {
  const name = `aishell-undo-${context.instance}-${request.xid}`;
  return join(request.scratch ?? dirname(live.dataDirectory), name);
}

/** What a run that was killed has left; nothing else is touched. */
async function removeLeftOver(path: string): Promise<void> {
  const entries: readonly string[] = await readdir(path).catch(() => []);
  if (!entries.includes(MARKER)) return;
  await stopLeftOver(join(path, 'data'));
  await rm(path, { recursive: true, force: true });
}

async function replay(
  context: InstanceContext,
  restoring: Parameters<typeof restoreBackup>[1],
  options: RunOptions,
): Promise<IsolatedServer> {
  const { plan, layout, binaries } = restoring;
  await using feeder = feedLog(context, restoring, options);
  const { server } = await runStep(
    options.onEvent,
    { id: 'replay', title: 'Log replayed to just before the transaction' },
    () => replayLog(layout, { plan, binaries, feeder }, options),
  );
  return server;
}

async function readDatabase(
  server: IsolatedServer,
  oid: number,
  signal: AbortSignal,
): Promise<{ readonly session: Session; readonly database: string }> {
  const { database } = await withConnection(server.connection, { env: {}, signal }, client =>
    queryRow<{ database: string }>(client, 'find the database', {
      text: 'select datname as database from pg_database where oid = $1::int8::oid',
      values: [oid],
      signal,
    }),
  );
  const session = await server.connect(database, signal);
  await beginReading(session, signal);
  return { session, database };
}
