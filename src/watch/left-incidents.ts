import { delay } from '../base/abort.ts';
import { findOwner } from '../engines/postgres/transaction-owner.ts';
import type { Incident } from '../operations/incident/incident.ts';
import { readIncidents } from '../operations/incident/incident-store.ts';
import { isRateIncident } from '../operations/incident/rate-incident.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { type DetachedHold, findDetachedHold } from './detached-hold.ts';
import { DisasterResponse } from './disaster-response.ts';
import type { EarlierTransactions } from './earlier-transactions.ts';
import type { ResponseTools } from './response-tools.ts';

const START_MS = 2000;
/** Numbers of transactions come again, after billions of others. */
const KNOWN_MS = 7 * 86_400_000;

/** Incidents that an agent before this one has begun with: their transactions may still run, or be sent once more. */
export class LeftIncidents {
  readonly #tools: ResponseTools;
  readonly #onChange: (response: DisasterResponse) => void;
  readonly #earlier: EarlierTransactions;
  /** By xid; null: it is known, and over. */
  readonly #known = new Map<number, DisasterResponse | null>();
  /** Those that an agent before this one has left, whatever became of them since. */
  readonly #before = new Set<number>();

  constructor(
    tools: ResponseTools,
    earlier: EarlierTransactions,
    onChange: (response: DisasterResponse) => void,
  ) {
    this.#tools = tools;
    this.#earlier = earlier;
    this.#onChange = onChange;
  }

  /** Goes on with those of which there is a copy here, and learns of the others, if the repository answers. */
  async load(context: Pick<InstanceContext, 'instance' | 'repository'>): Promise<void> {
    for (const left of this.#tools.keeper.left()) this.#goOn(left, await this.#holdOf(left));
    const stored = await readIncidents(context, { signal: AbortSignal.timeout(START_MS) }).catch(
      (): Incident[] => [],
    );
    const from = new Date(Date.now() - KNOWN_MS).toISOString();
    for (const incident of stored) {
      const { transaction, detectedAt } = incident;
      const isNew = detectedAt > from && !isRateIncident(incident) && !this.#known.has(transaction.xid);
      if (isNew) this.#known.set(transaction.xid, null);
    }
    for (const xid of this.#known.keys()) this.#before.add(xid);
  }

  /** Null: it is known, and over. Undefined: nothing is known of it. */
  responseOf(xid: number): DisasterResponse | null | undefined {
    return this.#known.get(xid);
  }

  /** An agent before this one knew of it. */
  isLeft(xid: number): boolean {
    return this.#before.has(xid);
  }

  /** It has ended, and may be sent once more. */
  setOver(xid: number): void {
    this.#known.set(xid, null);
  }

  /** What is still held for it; a server that does not answer has nothing that can be found. */
  async #holdOf(left: Incident): Promise<DetachedHold | null> {
    const found = findDetachedHold(this.#tools.sessions, left).catch(() => null);
    return await Promise.race([found, delay(START_MS).then(() => null)]);
  }

  #goOn(left: Incident, hold: DetachedHold | null): void {
    const response = DisasterResponse.goOn(this.#tools, { left, hold, onChange: this.#onChange });
    const { incident } = response;
    if (hold === null && incident !== left) {
      const text = `${incident.events.at(-1)?.text} (${left.id})`;
      this.#tools.note('error', text, { topic: 'hold lost', incident: left.id });
    } else if (hold !== null) {
      const text = `the snapshot of ${left.id} is still held: ${hold.record.name}`;
      this.#tools.note('info', text, { topic: 'still held', incident: left.id });
    }
    const { outcome, xid } = incident.transaction;
    if (outcome !== 'running' && outcome !== 'prepared') return;
    this.#known.set(xid, response);
    this.#earlier.expect(incident);
    if (outcome === 'running' && incident.guard.policy !== 'alert') void this.#holdAgain(response);
  }

  async #holdAgain(response: DisasterResponse): Promise<void> {
    const { tables, transaction } = response.incident;
    const [first] = tables;
    if (first === undefined || first.rows === null) return;
    const owner = await this.#tools.sessions
      .control(client => findOwner(client, transaction.xid))
      .catch(() => null);
    if (owner !== null) response.holdAgain(first.database);
  }
}
