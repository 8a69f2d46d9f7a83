import { MIB } from '../../base/sizes.ts';
import { Wakes } from '../../base/wakes.ts';
import type { WalThinner } from '../../engines/postgres/wal-thinner.ts';
import type { FedFile } from './log-feeder-protocol.ts';
import type { Owner } from './new-files.ts';
import { type LogFilePlace, writeLogFile } from './write-log-file.ts';

/** For segments that wait for their turn. */
const MOST_ROOM_BYTES = 256 * MIB;

/** A file that is being fetched to be thinned. */
interface Expected {
  readonly index: number;
  readonly place: LogFilePlace;
  readonly room: SharedArrayBuffer;
  /** Null: it is not there yet. */
  fed: FedFile | null;
}

/**
 * Segments that are thinned before a server may see them: threads unpack them in any order, into memory that is shared, and here
 * they are changed and written one after the other, as each depends on those in front of it. That takes 10 ms for 16 MiB.
 */
export class ThinQueue {
  readonly #options: ThinQueueOptions;
  readonly #rooms: SharedArrayBuffer[] = [];
  #roomsLeft: number;
  readonly #expected = new Map<number, Expected>();
  #next: number;
  #hasStopped = false;
  readonly #wakes = new Wakes();

  constructor(options: ThinQueueOptions) {
    this.#options = options;
    this.#next = options.first;
    const rooms = Math.trunc(MOST_ROOM_BYTES / options.segmentBytes);
    this.#roomsLeft = Math.max(1, Math.min(2 * options.workers, rooms));
  }

  /** Whether a file, by its number, is for it. */
  takes(index: number): boolean {
    return !this.#hasStopped && index >= this.#options.first && index < this.#options.end;
  }

  /** Expects a file, in the order of their numbers. @returns where its bytes are to be put, once there is room */
  async expect(index: number, place: LogFilePlace, signal: AbortSignal): Promise<SharedArrayBuffer> {
    const room = await this.#takeRoom(signal);
    this.#expected.set(index, { index, place, room, fed: null });
    return room;
  }

  /** @returns false: it is none of those that were expected */
  arrived(fed: FedFile): boolean {
    const expected = this.#expected.get(fed.index);
    if (expected === undefined) return false;
    expected.fed = fed;
    this.#goOn();
    return true;
  }

  /** From now on what arrives is written as it is. @returns the numbers of those that were thinned; none the second time */
  stop(): number[] {
    if (this.#hasStopped) return [];
    this.#hasStopped = true;
    this.#goOn();
    const { first } = this.#options;
    return Array.from({ length: this.#next - first }, (_, index) => first + index);
  }

  #goOn(): void {
    for (let turn = this.#turn(); turn !== null; turn = this.#turn()) {
      const { index, place, room, fed } = turn;
      const startedAt = performance.now();
      const segment = new Uint8Array(room, 0, fed.bytes);
      if (!this.#hasStopped) {
        this.#options.thinner.thin(segment);
        this.#next += 1;
      }
      writeLogFile(place, this.#options.owner, [segment]);
      this.#expected.delete(index);
      // Once there are no more to come, the memory is given back.
      if (this.takes(this.#next + this.#expected.size)) this.#rooms.push(room);
      else this.#roomsLeft += 1;
      this.#wakes.wake();
      this.#options.onWritten({ ...fed, workMs: fed.workMs + performance.now() - startedAt });
    }
  }

  #turn(): (Expected & { readonly fed: FedFile }) | null {
    const turn = this.#hasStopped
      ? [...this.#expected.values()].find(({ fed }) => fed !== null)
      : this.#expected.get(this.#next);
    return turn === undefined || turn.fed === null ? null : { ...turn, fed: turn.fed };
  }

  async #takeRoom(signal: AbortSignal): Promise<SharedArrayBuffer> {
    for (;;) {
      const room = this.#rooms.pop();
      if (room !== undefined) return room;
      if (this.#roomsLeft > 0) {
        this.#roomsLeft -= 1;
        return new SharedArrayBuffer(this.#options.segmentBytes);
      }
      await this.#wakes.wait(signal);
    }
  }
}

export interface ThinQueueOptions {
  readonly thinner: WalThinner;
  /** The numbers of the files to be thinned: `[first, end)`. */
  readonly first: number;
  readonly end: number;
  readonly segmentBytes: number;
  readonly workers: number;
  readonly owner: Owner;
  /** Called when the server can see a file. */
  readonly onWritten: (fed: FedFile) => void;
}
