import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import { nextSegment, parseSegmentName, segmentName, segmentStart } from '../engines/postgres/lsn.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { openLogView, type TimelineStart } from '../operations/log/log-view.ts';
import { archivedReach, listLogFiles } from '../repository/log-archive.ts';
import { parsePartName } from '../repository/log-parts.ts';
import type { AgentPaths } from './agent-paths.ts';
import { startArchiveThread } from './archive-thread.ts';
import { LogArchiver, type Receiving } from './log-archiver.ts';
import { timelineAt } from './resume-position.ts';
import { openSpoolDirectory, type SpoolDirectory } from './spool-directory.ts';
import type { WalSpool } from './wal-spool.ts';

/** The log of one database system on its way: the spool it is received into, and what archives it from there. */
export interface LogSystem {
  readonly systemIdentifier: string;
  readonly segmentSize: number;
  readonly directory: SpoolDirectory;
  readonly archiver: LogArchiver;
  /** Null until something is received, and after a failure of the spool. */
  spool: WalSpool | null;
  /** Whether a file of the server's is what the spool holds. */
  compare(mine: string, theirs: string): Promise<boolean>;
  /** Archives what is left, as far as that succeeds in time. */
  close(timeoutMs: number): Promise<void>;
}

export interface LogSystemOptions {
  readonly context: Pick<InstanceContext, 'instance' | 'repository' | 'location' | 'level'>;
  readonly paths: AgentPaths;
  readonly archiveTimeoutMs: number;
  readonly onArchived: () => void;
  readonly note: TellNote;
}

/** What is known of a system without its server. */
interface SystemFacts {
  readonly segmentSize: number;
}

const FACTS_FILE = 'system.json';

/** @throws FILE_FAILED, DISK_FULL */
export async function openLogSystem(
  options: LogSystemOptions,
  known: { readonly systemIdentifier: string; readonly segmentSize: number },
): Promise<LogSystem> {
  const { context, paths } = options;
  const { systemIdentifier, segmentSize } = known;
  const owner = { instance: context.instance, systemIdentifier };
  const directory = await openSpoolDirectory(paths.spool(systemIdentifier), segmentSize);
  await writeJsonFile(join(directory.path, FACTS_FILE), { segmentSize } satisfies SystemFacts);
  const thread = startArchiveThread({
    location: context.location,
    keys: context.repository.keyring.toWorker(),
    owner,
    level: context.level,
  });
  const archiver = new LogArchiver({
    ...options,
    directory,
    thread,
    knownReach: async segment => {
      const reach = await archivedReach(context.repository, owner, segment);
      return Math.min(reach, segmentSize);
    },
    receiving: () => receiving(system),
  });
  const system: LogSystem = {
    systemIdentifier,
    segmentSize,
    directory,
    archiver,
    spool: null,
    compare: async (mine, theirs) =>
      (await thread.run({ kind: 'compare', paths: [mine, theirs] })) === 'same',
    async close(timeoutMs) {
      await system.spool?.close();
      await archiver.finish(timeoutMs);
      await thread.terminate();
    },
  };
  archiver.start();
  return system;
}

/** The systems of which something waits in the spool: it is archived even when no server answers. */
export async function waitingSystems(
  paths: AgentPaths,
): Promise<{ systemIdentifier: string; segmentSize: number }[]> {
  const waiting: { systemIdentifier: string; segmentSize: number }[] = [];
  for (const systemIdentifier of readdirSync(paths.directory).filter(name => /^\d{1,20}$/.test(name))) {
    const facts = readJsonFile<SystemFacts>(join(paths.spool(systemIdentifier), FACTS_FILE));
    if (facts === null) continue;
    const directory = await openSpoolDirectory(paths.spool(systemIdentifier), facts.segmentSize);
    if (directory.unarchivedBytes() > 0) waiting.push({ systemIdentifier, segmentSize: facts.segmentSize });
  }
  return waiting;
}

function receiving(system: LogSystem): Receiving | null {
  const { spool, segmentSize } = system;
  if (spool === null || spool.timeline === 0) return null;
  const start = segmentStart(spool.written, segmentSize);
  const bytes = spool.flushed > start ? Number(spool.flushed - start) : 0;
  const nameAt = (lsn: bigint): string => segmentName(spool.timeline, lsn, segmentSize);
  return { segment: nameAt(start), bytes, first: nameAt(segmentStart(spool.flushed, segmentSize)) };
}

/**
 * How far the archive goes on from a position without a hole, along the server's history: what archive_command, or an
 * agent before this one, has brought there need not be received again.
 */
export async function archivedUpTo(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  source: {
    readonly systemIdentifier: string;
    readonly segmentSize: number;
    readonly chain: readonly TimelineStart[];
    readonly lsn: bigint;
  },
  signal: AbortSignal,
): Promise<bigint> {
  const { systemIdentifier, segmentSize, chain } = source;
  const timeline = chain.at(-1)!.timeline;
  const view = await openLogView(
    context.repository,
    {
      owner: { instance: context.instance, systemIdentifier },
      segmentSize,
      timeline,
      backupTimelines: [timeline],
    },
    signal,
  );
  let at = segmentStart(source.lsn, segmentSize);
  for (;;) {
    // Whole segments alone: one in pieces has no summary yet, and is not what archive_command's users look for.
    if (view.nameAt(at) !== view.expectedName(at)) return at;
    at = nextSegment(at, segmentSize);
  }
}

/**
 * The end of what the archive holds of the server's history before a position, whatever is missing before that: always the
 * start of a segment; one that is there in pieces counts as missing. Null when it holds nothing, or does not answer.
 */
export async function archiveEnd(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  source: {
    readonly systemIdentifier: string;
    readonly segmentSize: number;
    readonly chain: readonly TimelineStart[];
    readonly before: bigint;
  },
  signal: AbortSignal,
): Promise<bigint | null> {
  const { systemIdentifier, segmentSize, chain, before } = source;
  const owner = { instance: context.instance, systemIdentifier };
  let end: bigint | null = null;
  try {
    for await (const { name } of listLogFiles(context.repository, owner, {}, { signal })) {
      const part = parsePartName(name);
      const place = parseSegmentName(part?.segment ?? name, segmentSize);
      if (
        place === null ||
        place.lsn >= before ||
        timelineAt(chain, place.lsn, segmentSize) !== place.timeline
      )
        continue;
      const reach = part === null ? nextSegment(place.lsn, segmentSize) : place.lsn;
      if (end === null || reach > end) end = reach;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    return null;
  }
  return end;
}
