import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { GIB, MIB } from '../../base/sizes.ts';
import { classifyLogFileName } from '../../engines/postgres/lsn.ts';

/** So much is listed at a time. */
const LISTED_BYTES = 4 * GIB;

/** The segments that wait for the server's archiver behind the one at `path`, in its order. */
export class ServerQueue {
  readonly #folder: string;
  readonly #dataDirectory: string;
  #last: string;
  /** How many are listed at a time, by the size of the first. */
  #most: number | null = null;

  /** `path` is PostgreSQL's `%p`: relative to the data directory. */
  constructor(path: string) {
    const absolute = resolve(path);
    this.#folder = dirname(path);
    this.#dataDirectory = dirname(dirname(absolute));
    this.#last = basename(path);
  }

  /** The paths of the next ones, like that of the first. @source postmaster/pgarch.c; xlogarchive.c, `.ready` */
  next(): string[] {
    // The first may be a history file, of some bytes.
    this.#most ??= Math.floor(LISTED_BYTES / Math.max(statSync(join(this.#folder, this.#last)).size, MIB));
    const names = readdirSync(join(this.#folder, 'archive_status'))
      .filter(file => file.endsWith('.ready'))
      .map(file => file.slice(0, -'.ready'.length))
      .filter(name => name > this.#last && classifyLogFileName(name)?.kind === 'segment')
      .sort()
      .slice(0, this.#most);
    this.#last = names.at(-1) ?? this.#last;
    return names.map(name => join(this.#folder, name));
  }

  /** Whether there is a server that will ask for them. @source miscadmin.h, LOCK_FILE_NAME of a data directory */
  isServed(): boolean {
    return existsSync(join(this.#dataDirectory, 'postmaster.pid'));
  }
}
