import { WAL_PAGE_BYTES } from '../engines/postgres/wal-pages.ts';
import { createWalReader, type WalReader } from '../engines/postgres/wal-reader.ts';
import type { WalRecord } from '../engines/postgres/wal-record.ts';

/** What a piece of the log belongs to. */
export interface StreamPlace {
  readonly systemIdentifier: string;
  readonly segmentSize: number;
  readonly timeline: number;
  /** How far the server's log was when it began to send. */
  readonly serverLsn: bigint;
}

export interface StreamEvents {
  onRecord(record: WalRecord): void;
  /** Reading begins anew at this place: behind a hole, on another timeline, after something that could not be read. */
  onBegin(lsn: bigint, why: 'first' | 'gap' | 'timeline' | 'unreadable'): void;
}

/**
 * Reads the log as it is received. What was read already is passed over when it is sent again; behind what is missing or
 * cannot be read it begins at the next page, with the first record that starts there.
 */
export class StreamReader {
  readonly #events: StreamEvents;
  #place: StreamPlace | null = null;
  #reader: WalReader | null = null;
  /** What comes next; behind it, up to the reader's start, bytes are passed over. */
  #expected = 0n;

  constructor(events: StreamEvents) {
    this.#events = events;
  }

  /** Everything before it was looked at. */
  get position(): bigint {
    return this.#expected;
  }

  /** @throws what the events throw, CORRUPT; after it reading goes on at the next page. */
  push(place: StreamPlace, lsn: bigint, bytes: Uint8Array): void {
    const end = lsn + BigInt(bytes.length);
    const last = this.#place;
    if (last === null) this.#begin(place, lsn, 'first');
    else if (last.systemIdentifier !== place.systemIdentifier || last.timeline !== place.timeline)
      this.#begin(place, lsn, 'timeline');
    else if (lsn > this.#expected) this.#begin(place, lsn, 'gap');
    if (end <= this.#expected) return;
    const known = this.#expected > lsn ? Number(this.#expected - lsn) : 0;
    this.#expected = end;
    try {
      this.#reader?.push(known === 0 ? bytes : bytes.subarray(known));
    } catch (error) {
      this.#begin(place, end, 'unreadable');
      throw error;
    }
    if (this.#reader?.end != null) this.#begin(place, end, 'unreadable');
  }

  /** From the next page on; what lies before it is passed over. */
  #begin(place: StreamPlace, lsn: bigint, why: Parameters<StreamEvents['onBegin']>[1]): void {
    const page = BigInt(WAL_PAGE_BYTES);
    const start = ((lsn + page - 1n) / page) * page;
    this.#place = place;
    this.#expected = start;
    this.#reader = createWalReader({
      segmentSize: place.segmentSize,
      systemIdentifier: place.systemIdentifier,
      startLsn: start,
      onRecord: record => this.#events.onRecord(record),
      // The server has just made it, and the connection has checksums of its own.
      verifyCrc: false,
    });
    this.#events.onBegin(start, why);
  }
}
