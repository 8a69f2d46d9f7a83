import { nextSegment, parseLsn, parseSegmentName, segmentStart } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { identityPath, identityPrefix, logPath } from '../../repository/layout.ts';
import { archivedReach, type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { verifyCatalogs } from '../catalog/verify-catalogs.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { openLogView } from '../log/log-view.ts';
import { segmentsOf } from '../log/wait-for-log.ts';
import { batchTasks, startRestorePool } from '../restore/restore-files.ts';
import { isDamage, type VerifyProblem } from './verify-problem.ts';

/** Reads every log file of an instance, and looks for those that should be there and are not. */
export async function verifyLog(
  context: InstanceContext,
  manifests: readonly Manifest[],
  options: RunOptions,
): Promise<{
  readonly files: number;
  readonly gaps: readonly string[];
  readonly problems: readonly VerifyProblem[];
}> {
  const problems: VerifyProblem[] = [];
  const gaps: string[] = [];
  let files = 0;
  for (const owner of await logOwners(context, { manifests, problems }, options.signal)) {
    const own = manifests.filter(each => each.backup.systemIdentifier === owner.systemIdentifier);
    const newest = own.at(-1);
    // Log without any backup is of no use to anyone: nothing can be restored with it.
    if (newest === undefined) continue;
    const found = await verifyLogFiles(context, { owner, manifest: newest }, options);
    files += found.files;
    problems.push(...found.problems);
    gaps.push(...(await findGaps(context, owner, own, options.signal)));
    problems.push(...(await missingForBackups(context, own, options.signal)));
    problems.push(...(await verifyCatalogs(context.repository, owner, options.signal)));
  }
  return { files, gaps, problems };
}

/** The systems whose log is looked at: those that are recorded, and those of which there are backups. */
async function logOwners(
  context: InstanceContext,
  seen: { readonly manifests: readonly Manifest[]; readonly problems: VerifyProblem[] },
  signal: AbortSignal,
): Promise<LogOwner[]> {
  const { repository, instance } = context;
  const affects = `archiving the log of instance ${instance}`;
  const systems = new Set(seen.manifests.map(({ backup }) => backup.systemIdentifier));
  try {
    const recorded = (await readIdentities(repository, instance, { signal })).map(
      each => each.systemIdentifier,
    );
    for (const system of systems) {
      if (recorded.includes(system)) continue;
      const object = identityPath(instance, system);
      seen.problems.push({ object, message: `object '${object}' is missing`, affects });
    }
    for (const system of recorded) systems.add(system);
  } catch (error) {
    if (!isDamage(error)) throw error;
    const object = String(error.details?.['object'] ?? identityPrefix(instance));
    seen.problems.push({ object, message: error.message, affects });
  }
  return [...systems].map(systemIdentifier => ({ instance, systemIdentifier }));
}

async function verifyLogFiles(
  context: InstanceContext,
  log: { readonly owner: LogOwner; readonly manifest: Manifest },
  options: RunOptions,
): Promise<{ readonly files: number; readonly problems: readonly VerifyProblem[] }> {
  const problems: VerifyProblem[] = [];
  let files = 0;
  const pool = startRestorePool(
    { ...context, manifest: log.manifest },
    message => {
      if (message.type !== 'batch') return;
      for (const { object, message: text } of message.problems)
        problems.push({ object, message: text, affects: 'points in time after this position' });
    },
    options.signal,
  );
  try {
    const batches = batchTasks(pool);
    for await (const file of listLogFiles(context.repository, log.owner, {}, { signal: options.signal })) {
      files += 1;
      await batches.add({ kind: 'log-check', name: file.name }, log.manifest.backup.walSegmentSize);
    }
    await batches.flush();
    await pool.finish({ tasks: [] });
  } finally {
    await pool.terminate();
  }
  return { files, problems };
}

/** Follows the newest timeline from the oldest backup's start; each hole before its end is a gap. */
async function findGaps(
  context: InstanceContext,
  owner: LogOwner,
  manifests: readonly Manifest[],
  signal: AbortSignal,
): Promise<string[]> {
  const oldest = manifests.find(each => !each.backup.logIncluded) ?? manifests[0];
  if (oldest === undefined) return [];
  const segmentSize = oldest.backup.walSegmentSize;
  const view = await openLogView(
    context.repository,
    { owner, segmentSize, timeline: null, backupTimelines: manifests.map(each => each.backup.timeline) },
    signal,
  );
  const end = view.end;
  const gaps: string[] = [];
  for (
    let at = segmentStart(parseLsn(oldest.backup.startLsn), segmentSize);
    end !== null && at < end;
    at = nextSegment(at, segmentSize)
  ) {
    if (view.nameAt(at) === null) gaps.push(view.expectedName(at));
  }
  return gaps;
}

/** The start of the segment of this name. */
function segmentOf(name: string, segmentSize: number): bigint {
  return parseSegmentName(name, segmentSize)?.lsn ?? 0n;
}

/** Without the log from its start to its end a backup is of no use, unless it carries that log itself. */
async function missingForBackups(
  context: InstanceContext,
  manifests: readonly Manifest[],
  signal: AbortSignal,
): Promise<VerifyProblem[]> {
  const problems: VerifyProblem[] = [];
  for (const { backup } of manifests) {
    if (backup.logIncluded) continue;
    const range = {
      timeline: backup.timeline,
      from: parseLsn(backup.startLsn),
      to: parseLsn(backup.stopLsn),
    };
    const segmentSize = backup.walSegmentSize;
    for (const name of segmentsOf({ ...range, segmentSize })) {
      const object = logPath(backup, name);
      // Of the last one no more is needed than the backup's end.
      const needed = Math.min(segmentSize, Number(range.to - segmentOf(name, segmentSize)));
      if ((await archivedReach(context.repository, backup, name, { signal })) >= needed) continue;
      const affects = `backup ${backup.id} cannot be restored`;
      problems.push({ object, message: `object '${object}' is missing`, affects });
    }
  }
  return problems;
}
