import type { EmbeddedBinaries } from '../src/engines/postgres/embedded-binaries.ts';
import type { ServerUser } from '../src/engines/postgres/embedded-process.ts';
import type { Measurement } from './measure.ts';

/** What every contender of a run shares. */
export interface Bench {
  /** Everything of this run, removed at its end. Belongs to the server's account. */
  readonly runDirectory: string;
  readonly dataDirectory: string;
  readonly binaries: EmbeddedBinaries;
  readonly user: ServerUser | null;
  /** The server on the data directory; where there is none (a restore), it is not used. */
  readonly port: number;
}

/** One way to do the measured thing. */
export interface Contender {
  /** As the table names it. */
  readonly name: string;
  /** A line on how it is set, for the report. */
  readonly settings: string;
  /** The archive_command of the server while this contender backs up. */
  readonly archiveCommand: string;
  /** Makes an empty repository; not measured. */
  prepare(): Promise<void>;
  /** A full backup of the whole data directory. */
  backup(): Promise<Measurement>;
  /** An incremental backup on the latest one; undefined where the contender has no notion of it. */
  increment?(): Promise<Measurement>;
  /** Of the latest backup into a new directory, log not included in the time where the contender leaves it out. */
  restore(target: string): Promise<Measurement>;
  /** Stores one log segment; undefined where the contender has no notion of a log. */
  archive?(segmentPath: string): Promise<Measurement>;
  /** Resolves when what archiving goes on with behind the server's back is done; left out: nothing. */
  settleLog?(): Promise<unknown>;
  /**
   * Takes the running server of the data directory back to a moment, in place; resolves when it answers there, open for
   * writing. Undefined where the contender has no notion of it.
   */
  rescue?(moment: string): Promise<Measurement>;
  /** Where its repository lies. */
  readonly repository: string;
  /** How many bytes the backup takes in the repository; the log beside it does not count. */
  storedBytes(): Promise<number>;
  /** Removes the repository; not measured. */
  clear(): Promise<void>;
}
