import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import { type ControlFile, readControlFile } from '../../engines/postgres/control-file.ts';
import { classifyLogFileName, parseLsn } from '../../engines/postgres/lsn.ts';
import type { WalEvent } from '../../engines/postgres/wal-events.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { COPY_MARKER } from '../log/archive-segment.ts';
import type { LiveInstance } from '../restore/live-instance.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import type { Places } from './places.ts';
import type { ServerFiles } from './server-files.ts';

/** Files of a data directory that is in the middle of something else. */
const UNFINISHED = ['backup_label', 'tablespace_map', 'recovery.signal', 'standby.signal'];

/** Why the live data directory cannot be rewound to a plan's target, as the end of a sentence; null when it can. */
export async function whyNotThisDirectory(
  plan: Pick<RecoveryPlan, 'backup' | 'timeline' | 'logFiles' | 'view'>,
  live: LiveInstance,
  places: Places,
): Promise<string | null> {
  const { backup } = plan;
  if (live.systemIdentifier !== backup.systemIdentifier)
    return 'the live data directory is of another database system';
  if (plan.timeline !== live.timeline)
    return `the target is on timeline ${plan.timeline}, and the live database on ${live.timeline}`;
  const control = await readControlFile(places.dataDirectory);
  const server = whyNotThisServer(control, backup);
  if (server !== null) return server;
  for (const name of [...UNFINISHED, COPY_MARKER])
    if (await isThere(join(places.dataDirectory, name)))
      return `there is a file ${name} in the live data directory`;
  if (await isAfterPromotion(places.log, control))
    return 'the live server has begun another timeline and was not started since';
  if (plan.view.nameAt(parseLsn(backup.startLsn)) === null)
    return 'the log from the start of the backup is in the backup itself, not in the archive';
  const oids = places.tablespaces.map(([oid]) => oid);
  const lacking = backup.tablespaces.find(({ oid }) => !oids.includes(oid));
  if (lacking !== undefined) return `tablespace ${lacking.name} of the backup is not there any more`;
  const added = oids.find(oid => !backup.tablespaces.some(each => each.oid === oid));
  return added === undefined ? null : `tablespace ${added} was created since the backup`;
}

/** Why the files of the live directory cannot be told for certain; null when they can. */
export function whyNotTheseFiles({ links }: Pick<ServerFiles, 'links'>): string | null {
  return links[0] === undefined ? null : `'${links[0]}' in the live data directory is a symbolic link`;
}

function whyNotThisServer(control: ControlFile, backup: BackupFacts): string | null {
  const allowed = ['in production', 'shut down', 'shutting down', 'in crash recovery'];
  if (!allowed.includes(control.state)) return `the live server is no primary, but '${control.state}'`;
  if (control.majorVersion !== Math.trunc(backup.serverVersion / 10_000))
    return 'the backup is of another major version of PostgreSQL';
  if (
    control.blockSize !== backup.blockSize ||
    control.relationSegmentBlocks !== backup.relationSegmentBlocks ||
    control.walSegmentSize !== backup.walSegmentSize
  )
    return 'the backup is of a server with other sizes of pages or files';
  if (control.dataChecksums !== backup.pageChecksums)
    return `page checksums were turned ${control.dataChecksums ? 'on' : 'off'} since the backup`;
  if (control.walLevel === 'minimal') return 'wal_level is minimal: not every change is in the log';
  if (!control.dataChecksums && !control.walLogHints)
    return 'there are neither page checksums nor wal_log_hints: pages change that the log does not name';
  return null;
}

/**
 * Why the log does not tell everything, or tells something that a rewind cannot undo; null when all is well.
 *
 * That full_page_writes was on is not asked for. Without it a hint that is set names its page all the same, only without an
 * image; torn pages of the backup are healed by images that a backup forces; and a page torn in a crash of the live server
 * was being changed, so it is named.
 */
export function whyNotThisLog(
  map: ChangeMap,
  events: readonly WalEvent[],
  facts: { readonly checksums: boolean },
): string | null {
  for (const event of map.storage) {
    if (event.kind === 'tablespace created' || event.kind === 'tablespace dropped')
      return `a tablespace was ${event.kind === 'tablespace created' ? 'created' : 'dropped'} since the backup`;
    if (event.kind === 'unknown')
      return `an extension (resource manager ${event.rmgr}) has changed files in a way of its own since the backup`;
  }
  for (const event of events) {
    if (event.kind !== 'parameter change') continue;
    if (event.walLevel === 'minimal' || event.walLevel === 'unknown')
      return 'wal_level was minimal for a while since the backup: not every change is in the log';
    // What wal_log_hints was before this change, no record says.
    if (!facts.checksums)
      return 'settings were changed since the backup, wal_log_hints perhaps among them, and there are no page checksums';
  }
  return null;
}

/**
 * Why the log since a rewind does not name all pages that were changed since, so that going back would leave some of them as
 * they are; null when it does. `was` is the control file from before the rewind.
 */
export function whyNotAllSince(
  map: ChangeMap,
  now: ControlFile,
  was: Pick<ControlFile, 'dataChecksums'>,
): string | null {
  if (map.storage.some(each => each.kind.startsWith('tablespace') || each.kind === 'unknown'))
    return 'a tablespace was created or dropped since the rewind';
  if (now.dataChecksums !== was.dataChecksums)
    return `page checksums were turned ${now.dataChecksums ? 'on' : 'off'} since the rewind`;
  const changes = map.events.filter(event => event.kind === 'parameter change');
  if (changes.some(({ walLevel }) => walLevel === 'minimal' || walLevel === 'unknown'))
    return 'wal_level was minimal for a while since the rewind: not every change is in the log';
  const hintsLogged = now.walLogHints && changes.every(({ walLogHints }) => walLogHints);
  return now.dataChecksums || hintsLogged
    ? null
    : 'wal_log_hints was off for a while since the rewind, and there are no page checksums';
}

/** A server that crashed just after it was promoted has a control file of the timeline before. */
async function isAfterPromotion(logDirectory: string, control: ControlFile): Promise<boolean> {
  const { timeline } = control.checkpoint;
  if (control.minRecoveryTimeline !== 0 && control.minRecoveryTimeline !== timeline) return true;
  const names = await readdir(logDirectory);
  return names.some(name => {
    const kind = classifyLogFileName(name, control.walSegmentSize);
    return kind?.kind === 'segment' && kind.timeline > timeline;
  });
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
