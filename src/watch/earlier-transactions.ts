import { parseLsn } from '../engines/postgres/lsn.ts';
import type { Incident } from '../operations/incident/incident.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import type { ChangeCounter } from './change-counter.ts';
import { addEarlier, countEarlier } from './earlier-count.ts';
import type { OpenTransaction } from './open-transaction.ts';
import type { StreamPlace } from './stream-reader.ts';

/** No record that matters here is longer. */
const CROSSING_BYTES = 64 * 1024;

/** What transactions did before reading began, of those that an agent before this one has left an incident of. */
export class EarlierTransactions {
  readonly #context: Pick<InstanceContext, 'instance' | 'repository'>;
  readonly #signal: AbortSignal;
  /** Where the first of them begins; null: there is none. */
  #from: bigint | null = null;
  #to: bigint | null = null;
  #crossing = Buffer.alloc(0);
  #place: StreamPlace | null = null;
  #counter: Promise<ChangeCounter | null> | null = null;

  constructor(context: Pick<InstanceContext, 'instance' | 'repository'>, signal: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
  }

  /** One that may still run. */
  expect({ transaction }: Incident): void {
    if (transaction.beginLsn === null) return;
    const begin = parseLsn(transaction.beginLsn);
    if (this.#from === null || begin < this.#from) this.#from = begin;
  }

  /** Reading begins here. */
  begin(lsn: bigint): void {
    this.#to ??= lsn;
  }

  /** Takes the first bytes that are read, and then counts what came before them. */
  see(place: StreamPlace, lsn: bigint, bytes: Uint8Array): void {
    const [from, to] = [this.#from, this.#to];
    if (from === null || to === null || this.#counter !== null || from >= to) return;
    const next = to + BigInt(this.#crossing.length);
    if (lsn > next || lsn + BigInt(bytes.length) <= next) return;
    this.#crossing = Buffer.concat([this.#crossing, bytes.subarray(Number(next - lsn))]);
    this.#place = place;
    if (this.#crossing.length >= CROSSING_BYTES) this.#counter = this.#count({ from, to, place });
  }

  async #count(of: {
    readonly from: bigint;
    readonly to: bigint;
    readonly place: StreamPlace;
  }): Promise<ChangeCounter | null> {
    const range = { from: of.from, to: of.to, crossing: this.#crossing };
    return await countEarlier({ ...this.#context, place: of.place }, range, this.#signal);
  }

  /** All that a transaction did; null when that cannot be known. */
  async add(
    transaction: OpenTransaction,
    subxids: readonly number[],
  ): Promise<Pick<OpenTransaction, 'totals' | 'created'> | null> {
    const [from, to] = [this.#from, this.#to];
    // All of it was sent once more.
    if (from === null || to === null || this.#place === null) return from === null ? null : transaction;
    if (from >= to) return transaction;
    this.#counter ??= this.#count({ from, to, place: this.#place });
    const counter = await this.#counter;
    return counter === null ? null : addEarlier(counter, transaction, subxids);
  }
}
