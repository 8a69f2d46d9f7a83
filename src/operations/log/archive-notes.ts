import {
  type BigIntStats,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import type { ListedSegment } from './archive-ahead-protocol.ts';

/**
 * What archive_command was called with, and what it would be called with for another segment. A note is only for the very
 * same call: with another configuration it would speak of another repository.
 */
export interface ArchiveCall {
  /** The folder of the notes for this log: nobody else may write to it. */
  readonly notes: string;
  /** As bin/aishell writes it down: the environment's configuration, and the arguments. */
  readonly commandFor: (path: string) => string;
  /** The configuration that was read. */
  readonly configFile: string;
}

const NOTE_SECONDS = 600;

/**
 * The notes that bin/aishell compares instead of starting Node: one for each segment, of four lines. What file it is and what
 * the configuration; the call; the configuration's path; until when the note holds, in seconds. Or, in place of that, the
 * process that is about to archive the segment, which the call then waits for.
 *
 * These are thousands of small calls of one thread that does nothing else: each is made at once, without the way through the
 * thread pool, which takes ten times as long.
 */
export class ArchiveNotes {
  readonly #call: ArchiveCall;

  constructor(call: ArchiveCall) {
    this.#call = call;
    mkdirSync(call.notes, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(call.notes)) {
      const path = join(call.notes, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found !== undefined && Date.now() - found.mtimeMs > NOTE_SECONDS * 1000)
        rmSync(path, { force: true, recursive: true });
    }
  }

  /** Segments as they are now, without those that are gone or that a note says are archived. */
  list(paths: readonly string[]): ListedSegment[] {
    return paths.flatMap(path => {
      const facts = this.#factsOf(path);
      return facts === null || this.#isNoted({ path, facts }) ? [] : [{ path, facts }];
    });
  }

  /** Says that this process is about to archive a segment: its call waits for as long as the process lives. */
  announce(segment: ListedSegment): void {
    this.#write(segment, `process ${process.pid}`);
  }

  /** Says that a segment is archived, if the bytes that were are those of the file as it still is. */
  confirm(segment: ListedSegment): void {
    if (this.#factsOf(segment.path) === segment.facts)
      this.#write(segment, String(Math.floor(Date.now() / 1000) + NOTE_SECONDS));
    else this.withdraw(segment);
  }

  /** Leaves a segment to its own call. */
  withdraw({ path }: ListedSegment): void {
    rmSync(this.#pathOf(path), { force: true });
  }

  #isNoted({ path, facts }: ListedSegment): boolean {
    try {
      const lines = readFileSync(this.#pathOf(path), 'utf8').split('\n');
      const isThisCall = lines[0] === facts && lines[1] === this.#call.commandFor(path);
      return isThisCall && Number(lines[3]) > Date.now() / 1000;
    } catch {
      return false;
    }
  }

  #pathOf(segmentPath: string): string {
    return join(this.#call.notes, basename(segmentPath));
  }

  #write({ path, facts }: ListedSegment, state: string): void {
    const lines = [facts, this.#call.commandFor(path), this.#call.configFile];
    // A line end within one of them would make it say something else.
    if (lines.some(line => line.includes('\n'))) return;
    const note = this.#pathOf(path);
    writeFileSync(`${note}.new`, `${lines.join('\n')}\n${state}\n`, { mode: 0o600 });
    renameSync(`${note}.new`, note);
  }

  /** What tells that neither the segment nor the configuration has changed, as `stat` prints it in bin/aishell. */
  #factsOf(path: string): string | null {
    const facts = [path, this.#call.configFile].map(each => {
      const found = statSync(each, { bigint: true, throwIfNoEntry: false });
      return found === undefined ? null : fileFacts(found);
    });
    return facts.includes(null) ? null : facts.join('');
  }
}

/** What tells one state of one file from any other. */
export function fileFacts({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev} ${ino} ${size} ${seconds(mtimeNs)} ${seconds(ctimeNs)} `;
}

function seconds(nanoseconds: bigint): string {
  return `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`;
}
