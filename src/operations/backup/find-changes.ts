import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { formatLsn, nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type BegunChanges, readChanges } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import { compareLiveLog } from '../log/same-log.ts';
import type { Changes } from './changed-files.ts';
import type { PresentServer } from './choose-parent.ts';

/** What changed between a parent's start and `server.lsn`. */
export interface ChangesQuestion {
  readonly parent: BackupFacts;
  readonly server: PresentServer;
  readonly dataDirectory: string;
  readonly view: LogView;
  /** What of the log was read already; left out: nothing. */
  readonly begun?: BegunChanges | null;
}

/** How the changes are known; or, `changes` null, why they are not. `why` says why the log does not do. */
export type FoundChanges =
  | { readonly changes: Changes; readonly why: string | null }
  | { readonly changes: null; readonly why: string };

/** Databases made this long before the parent's start count as made since: file times may be coarse. */
const TIME_MARGIN_MS = 2000;
const WAL_PAGE_BYTES = 8192;
/** What reading a log that is not whole, or not of this server, ends with. */
const UNREADABLE: readonly string[] = [
  'LOG_NOT_FOUND',
  'CORRUPT',
  'UNSUPPORTED',
  'KEY_WRONG',
  'ENGINE_VERSION',
  'SYSTEM_MISMATCH',
];

/**
 * Finds out what changed since a parent: by the log, where it is there without a gap, in the archive or still in the
 * server's own pg_wal; else by the positions of pages, where the server has not been started again since, so that
 * nothing can have been exchanged behind its back, and where every change that matters moves them.
 */
export async function findChanges(
  context: Pick<InstanceContext, 'repository'>,
  question: ChangesQuestion,
  signal: AbortSignal,
): Promise<FoundChanges> {
  const { parent, server } = question;
  const sameRun = parent.serverStartTime === server.startTime && parent.timeline === server.timeline;
  const other = await whyOtherLog(question, sameRun);
  if (other !== null) return { changes: null, why: other };
  const why = await whyLogIncomplete(question);
  if (why === null) {
    const read = await readLog(context, question, signal);
    if ('map' in read) return { changes: { by: 'log', map: read.map }, why: null };
    return sameRun && !read.final ? byPosition(question, read.why) : { changes: null, why: read.why };
  }
  if (!sameRun)
    return { changes: null, why: `${why}, and the server was started again since backup ${parent.id}` };
  return byPosition(question, why);
}

/**
 * Without checksums and wal_log_hints a page may be marked all-visible without a new position, and the visibility map,
 * which is copied as it is, would say more than the page.
 * @source access/heap/visibilitymap.c, visibilitymap_set
 */
function byPosition({ parent, server }: ChangesQuestion, why: string): FoundChanges {
  if (!server.dataChecksums && !server.walLogHints)
    return {
      changes: null,
      why: `${why}, and pages do not tell all their changes: page checksums and wal_log_hints are off`,
    };
  const sinceMs = Date.parse(parent.startTime) - TIME_MARGIN_MS;
  return { changes: { by: 'page position', sinceLsn: parseLsn(parent.startLsn), sinceMs }, why };
}

async function whyLogIncomplete({
  parent,
  server,
  view,
  dataDirectory,
}: ChangesQuestion): Promise<string | null> {
  for (let lsn = liveFrom(view, parent); lsn < server.lsn; lsn = nextSegment(lsn, view.segmentSize)) {
    const name = view.expectedName(lsn);
    if (!(await exists(join(dataDirectory, 'pg_wal', name))))
      return `the log is not complete: segment ${name} is neither archived nor in pg_wal`;
  }
  return null;
}

/** Where the archive ends, going on from a parent's start, and the server's own pg_wal must go on. */
export function liveFrom(view: LogView, parent: BackupFacts): bigint {
  const first = segmentStart(parseLsn(parent.startLsn), view.segmentSize);
  const missing = view.firstMissing(first);
  const last = missing - BigInt(view.segmentSize);
  // Of a segment that is archived in part only, pg_wal has more.
  return last >= first && (view.reachAt(last) ?? last) < missing ? last : missing;
}

/**
 * Why the server's log is not that of the archive, as after its disk went back to a snapshot: while it was down, or along
 * with the memory of a whole machine, so that it has not even been started again.
 */
async function whyOtherLog(
  { parent, server, view, dataDirectory }: ChangesQuestion,
  sameRun: boolean,
): Promise<string | null> {
  const from = parseLsn(parent.startLsn);
  try {
    const span = { from, to: server.lsn };
    const { foreign, compared } = await compareLiveLog(view, join(dataDirectory, 'pg_wal'), span);
    if (foreign !== null) return `segment ${foreign} of the server's log is not the one that is archived`;
    // The archive ends where pg_wal begins: the two are joined by the links between their records.
    return compared || sameRun || liveFrom(view, parent) > segmentStart(from, view.segmentSize)
      ? null
      : 'no segment of the log shows that the server is the one that was backed up';
  } catch (error) {
    if (!(error instanceof AppError) || !UNREADABLE.includes(error.code)) throw error;
    return sameRun ? null : `the log is not complete: ${error.message}`;
  }
}

async function readLog(
  context: Pick<InstanceContext, 'repository'>,
  question: ChangesQuestion,
  signal: AbortSignal,
): Promise<
  | { readonly map: Awaited<ReturnType<typeof readChanges>> }
  | { readonly why: string; readonly final: boolean }
> {
  const { parent, server, view } = question;
  const range = { from: parseLsn(parent.startLsn), to: server.lsn, target: null };
  try {
    // What is archived may go on behind the server, where its disk was put back.
    const begun = question.begun != null && question.begun.upTo <= server.lsn ? question.begun : null;
    const options = { signal, extra: liveSegments(question), begun };
    const map = await readChanges(context, view, range, options);
    const unknown = map.storage.find(event => event.kind === 'unknown');
    if (unknown !== undefined) {
      const why = `the log at ${formatLsn(unknown.lsn)} is of an extension that changes files in a way of its own`;
      return { why, final: true };
    }
    const minimal = map.events.find(
      event => event.kind === 'parameter change' && event.walLevel === 'minimal',
    );
    if (minimal === undefined) return { map };
    const why = `wal_level was minimal from ${formatLsn(minimal.lsn)} on, and not everything was logged`;
    return { why, final: true };
  } catch (error) {
    if (!(error instanceof AppError) || !UNREADABLE.includes(error.code)) throw error;
    return { why: `the log is not complete: ${error.message}`, final: false };
  }
}

/** What is not archived yet, up to the position asked for. */
async function* liveSegments({
  parent,
  server,
  view,
  dataDirectory,
}: ChangesQuestion): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }, void, undefined> {
  for (let lsn = liveFrom(view, parent); lsn < server.lsn; lsn = nextSegment(lsn, view.segmentSize)) {
    // Behind the position the server is writing.
    const wanted = Math.ceil(Number(server.lsn - lsn) / WAL_PAGE_BYTES) * WAL_PAGE_BYTES;
    const path = join(dataDirectory, 'pg_wal', view.expectedName(lsn));
    const bytes = await readStart(path, Math.min(wanted, view.segmentSize));
    if (bytes === null)
      throw new AppError('LOG_NOT_FOUND', `log segment '${view.expectedName(lsn)}' is gone from pg_wal`);
    yield { lsn, bytes };
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw fileError('read', path, error);
  }
}

/** The first bytes of a file, as far as there are so many; null when it is not there. */
async function readStart(path: string, length: number): Promise<Uint8Array | null> {
  try {
    await using file = await open(path, 'r');
    const bytes = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const { bytesRead } = await file.read(bytes, at, length - at, at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes.subarray(0, at);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}
