import { join } from 'node:path';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import { formatLsn, parseLsn } from '../engines/postgres/lsn.ts';
import type { StreamPlace } from './stream-reader.ts';

interface Seen {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly lsn: bigint;
}

/** As it is kept. */
type SeenFile = Omit<Seen, 'lsn'> & { readonly lsn: string };

const FILE = 'seen.json';
const SAVE_EVERY_MS = 10_000;

/**
 * How far the log was watched by an agent before this one: it is sent from the start of a segment, and what ended before is
 * not told once more. Where nobody has watched yet, what has ended by now is nobody's news.
 */
export class SeenPosition {
  readonly #path: string;
  #seen: Seen | null;
  #savedMs = performance.now();

  constructor(directory: string) {
    this.#path = join(directory, FILE);
    this.#seen = readSeen(this.#path);
  }

  /** Reading begins. */
  begin({ systemIdentifier, timeline, serverLsn }: StreamPlace): void {
    this.#seen ??= { systemIdentifier, timeline, lsn: serverLsn };
  }

  isOld(place: StreamPlace | null, lsn: bigint): boolean {
    const seen = this.#seen;
    return (
      seen !== null &&
      seen.systemIdentifier === place?.systemIdentifier &&
      seen.timeline === place.timeline &&
      lsn < seen.lsn
    );
  }

  /** Now and then, as what was lost of it is only looked at once more. @throws FILE_FAILED */
  async save(place: StreamPlace | null, lsn: bigint, isLast = false): Promise<void> {
    if (place === null || (!isLast && performance.now() - this.#savedMs < SAVE_EVERY_MS)) return;
    this.#savedMs = performance.now();
    const { systemIdentifier, timeline } = place;
    await writeJsonFile(this.#path, { systemIdentifier, timeline, lsn: formatLsn(lsn) } satisfies SeenFile);
  }
}

/** What cannot be read is looked at once more. */
function readSeen(path: string): Seen | null {
  try {
    const file = readJsonFile<SeenFile>(path);
    return file === null ? null : { ...file, lsn: parseLsn(file.lsn) };
  } catch {
    return null;
  }
}
