import { dirname, join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import { quotedName, readTableShapes } from '../../engines/postgres/table-shape.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { type LiveInstance, locateInstance } from '../restore/live-instance.ts';
import { planRecovery, type RecoveryPlan } from '../restore/plan-restore.ts';
import { replayLog } from '../restore/replay-log.ts';
import { describePart, planSideFiles, type SideFiles } from '../side/plan-files.ts';
import { openDatabase, proveFiles } from '../side/prove-files.ts';
import { feedSide, restoreSide, withLeastFiles } from '../side/restore-side.ts';
import type { WantedPages } from '../side/select-files.ts';
import { claimSideDirectory, type SideDirectory } from '../side/side-directory.ts';
import { beginReading, type RowSource } from './row-source.ts';
import { withLog } from './with-log.ts';

export interface SideInstanceRequest {
  readonly xid: number;
  /** Where the record starts that committed it. */
  readonly lsn: bigint;
  /** The oid of the database whose rows are wanted. */
  readonly database: number;
  /** Where the rows lie. */
  readonly pages: readonly WantedPages[];
  /** Null: beside the data directory. */
  readonly scratch: string | null;
}

interface PlannedSide {
  readonly plan: RecoveryPlan;
  readonly files: SideFiles;
}

/**
 * Restores what is needed of a backup into a directory of its own and recovers it to just before a transaction was committed; in
 * the end both are gone.
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
  const planned = await runStep(
    options.onEvent,
    {
      id: 'plan',
      title: 'Recovery beside planned',
      detail: ({ plan, files }) =>
        `from ${plan.backup.id} (${describePart(files)}), ${counted(plan.logFiles.length, 'file')} of the log`,
    },
    () => planBefore(context, { ...request, live }, signal),
  );
  const origin = live.dataDirectory;
  const path = join(request.scratch ?? dirname(origin), `aishell-undo-${context.instance}-${request.xid}`);
  const directory = await claimSideDirectory(context, { path, origin, live, ...planned });
  try {
    return await withLeastFiles({ ...planned, directory }, options, files =>
      openRecovered(context, { plan: planned.plan, files, directory, request }, options),
    );
  } catch (error) {
    await directory[Symbol.asyncDispose]();
    throw error;
  }
}

/** The plan to recover to just before a transaction. */
function planBefore(
  context: InstanceContext,
  request: SideInstanceRequest & { readonly live: LiveInstance },
  signal: AbortSignal,
): Promise<PlannedSide> {
  const { xid, live, pages, lsn } = request;
  const { timeline, systemIdentifier } = live;
  return withLog(context, signal, async () => {
    const plan = await planRecovery(
      context,
      { kind: 'xid', xid, after: false },
      { timeline, systemIdentifier, securedUs: null, signal },
    );
    return { plan, files: await planSideFiles(context, plan, { pages, to: lsn }, signal) };
  });
}

async function openRecovered(
  context: InstanceContext,
  from: PlannedSide & { readonly directory: SideDirectory; readonly request: SideInstanceRequest },
  options: RunOptions,
): Promise<RowSource> {
  const { plan, files, directory, request } = from;
  const { signal } = options;
  const side = await restoreSide(context, from, options);
  await using feeder = feedSide(context, side, options);
  const { server } = await runStep(
    options.onEvent,
    { id: 'replay', title: 'Log replayed to just before the transaction' },
    () => replayLog(side.layout, { ...side, feeder }, options),
  );
  try {
    await proveFiles(server, files, [request.database], signal);
    const session = await openDatabase(server, request.database, signal);
    if (session === null)
      throw new AppError(
        'RECOVERY_FAILED',
        `database ${request.database} is not there before ${formatLsn(request.lsn)}`,
      );
    await tryPlans(session, request.pages, signal);
    await beginReading(session, signal);
    const { bytes, ofBytes, whyAll } = files;
    return {
      kind: 'side instance',
      text: `${plan.backup.id}, recovered beside to just before it`,
      restored: { bytes, ofBytes, whyAll },
      session,
      database: session.database ?? '',
      [Symbol.asyncDispose]: async () => {
        await session.end().catch(() => undefined);
        await server.stop('immediate');
        await directory[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await server.stop('immediate');
    throw error;
  }
}

/** Has every wanted table planned for, which looks at its indexes: better now than with rows half read. */
async function tryPlans(session: Session, pages: readonly WantedPages[], signal: AbortSignal): Promise<void> {
  const files = pages.map(({ relation }) => relation.file);
  for (const table of await readTableShapes(session, { files }, signal)) {
    if (table.kind !== 'table') continue;
    await queryRows(session, `look at ${table.schema}.${table.name}`, {
      text: `explain select from only ${quotedName(table)}`,
      signal,
    });
  }
}
