import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { GIB } from '../../base/sizes.ts';
import { classifyLogFileName } from '../../engines/postgres/lsn.ts';
import type { Repository } from '../../repository/repository.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import { startWorkerPool } from '../worker-pool.ts';
import type { AheadDone, AheadSegment, AheadStart, AheadTask } from './archive-ahead-protocol.ts';
import type { ArchiveRequest } from './archive-segment.ts';

/**
 * What archive_command was called with, and what it would be called with for another segment. A note is only for the very
 * same call: with another configuration it would speak of another repository.
 */
export interface ArchiveCall {
  /** The folder of the notes: nobody else may write to it. */
  readonly notes: string;
  /** As bin/aishell writes it down: the environment's configuration, and the arguments. */
  readonly commandFor: (path: string) => string;
  /** The configuration that was read. */
  readonly configFile: string;
  /** The code of the threads: this program is one file, which they are not part of. */
  readonly workerUrl: URL;
}

/** No segment is begun later than this: a server that is stopped waits for the call. */
const AHEAD_MS = 5000;
/** So much is what a call could ever do in that time. */
const AHEAD_BYTES = 4 * GIB;
/** With fewer segments waiting, the archiver is as quick alone. */
const QUEUE = 3;
/** One for two processors: it hashes and reads what the thread pool, on the other one, compresses. */
const THREADS_AT_MOST = 4;
/** So many at a time are handed to a thread: in the end it waits for the last of them. */
const SEGMENTS_IN_A_TASK = 12;
const NOTE_SECONDS = 600;

/**
 * Archives what waits behind a segment in the server's queue, so that the calls for these find a note and end before they
 * have begun: bin/aishell compares it, and starts no Node (which takes as long as compressing a segment). Nothing is
 * promised to the server here: whatever fails is left to its own call, which has the words for it.
 */
export async function archiveAhead(
  source: { readonly repository: Repository; readonly location: StorageLocation },
  request: ArchiveRequest,
  call: ArchiveCall,
): Promise<void> {
  try {
    const queue = await waitingBehind(resolve(request.path));
    if (queue.length < QUEUE) return;
    await mkdir(call.notes, { recursive: true, mode: 0o700 });
    await removeOldNotes(call.notes);
    const segments: AheadSegment[] = [];
    for (const name of queue) {
      const path = join(dirname(request.path), name);
      const facts = await factsOf(path, call);
      if (facts !== null && !(await isNoted(path, call, facts))) segments.push({ path, facts });
    }
    await archiveAll(source, { request, call, segments });
  } catch {
    // Its own call comes to the same end, and says what is wrong.
  }
}

async function archiveAll(
  source: { readonly repository: Repository; readonly location: StorageLocation },
  work: {
    readonly request: ArchiveRequest;
    readonly call: ArchiveCall;
    readonly segments: readonly AheadSegment[];
  },
): Promise<void> {
  const { request, call, segments } = work;
  const startedAt = performance.now();
  const noting: Promise<void>[] = [];
  const pool = startWorkerPool<AheadStart, AheadTask, AheadDone>({
    url: call.workerUrl,
    count: Math.max(1, Math.min(THREADS_AT_MOST, Math.floor(availableParallelism() / 2))),
    start: {
      location: source.location,
      keys: source.repository.keyring.toWorker(),
      request: { instance: request.instance, level: request.level },
    },
    onMessage: ({ archived }) => {
      for (const segment of archived) noting.push(note(segment, call));
      return 'batch-done';
    },
  });
  try {
    for (let at = 0; at < segments.length; at += SEGMENTS_IN_A_TASK) {
      if (performance.now() - startedAt > AHEAD_MS) break;
      await pool.submit({ segments: segments.slice(at, at + SEGMENTS_IN_A_TASK) });
    }
    await pool.drain();
  } finally {
    await pool.terminate();
    await Promise.allSettled(noting);
  }
}

/** Leaves a note, if the bytes that were archived are those of the file as it still is. */
async function note({ path, facts }: AheadSegment, call: ArchiveCall): Promise<void> {
  if ((await factsOf(path, call)) === facts) await leaveNote(path, call, facts);
}

/** The names of the segments that wait behind this one, as the server's archiver takes them. @source pgarch.c */
async function waitingBehind(path: string): Promise<string[]> {
  const status = join(dirname(path), 'archive_status');
  const current = basename(path);
  const { size } = await stat(path);
  return (await readdir(status))
    .filter(file => file.endsWith('.ready'))
    .map(file => file.slice(0, -'.ready'.length))
    .filter(name => name > current && classifyLogFileName(name)?.kind === 'segment')
    .sort()
    .slice(0, Math.floor(AHEAD_BYTES / size));
}

/** What tells that neither the segment nor the configuration has changed, as `stat` prints it in bin/aishell. */
async function factsOf(path: string, call: ArchiveCall): Promise<string | null> {
  const facts: string[] = [];
  for (const each of [path, call.configFile]) {
    const found = await stat(each, { bigint: true }).catch(() => null);
    if (found === null) return null;
    facts.push(
      `${found.dev} ${found.ino} ${found.size} ${seconds(found.mtimeNs)} ${seconds(found.ctimeNs)} `,
    );
  }
  return facts.join('');
}

function seconds(nanoseconds: bigint): string {
  return `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`;
}

async function isNoted(path: string, call: ArchiveCall, facts: string): Promise<boolean> {
  const note = await readFile(join(call.notes, basename(path)), 'utf8').catch(() => '');
  return note.startsWith(`${facts}\n${call.commandFor(path)}\n`);
}

/** Four lines: the facts, the call, the configuration, until when it holds. */
async function leaveNote(segmentPath: string, call: ArchiveCall, facts: string): Promise<void> {
  const lines = [facts, call.commandFor(segmentPath), call.configFile];
  // A line end within one of them would make it say something else.
  if (lines.some(line => line.includes('\n'))) return;
  const until = Math.floor(Date.now() / 1000) + NOTE_SECONDS;
  const path = join(call.notes, basename(segmentPath));
  await writeFile(`${path}.new`, `${lines.join('\n')}\n${until}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function removeOldNotes(notes: string): Promise<void> {
  for (const name of await readdir(notes)) {
    const path = join(notes, name);
    const found = await stat(path).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > NOTE_SECONDS * 1000)
      await rm(path, { force: true, recursive: true });
  }
}
