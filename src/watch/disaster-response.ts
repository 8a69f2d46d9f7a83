import { messageOf } from '../base/errors.ts';
import type { TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import { CONSOLE_APPLICATION } from '../engines/postgres/write-sessions.ts';
import { describeIncident, worstFirst } from '../operations/incident/describe-incident.ts';
import type { AutovacuumRecord, Incident, IncidentTable } from '../operations/incident/incident.ts';
import type { LeftTable } from '../operations/incident/put-tables-back.ts';
import { cancelSighted } from './cancel-transaction.ts';
import type { DetachedHold } from './detached-hold.ts';
import { firstAnswers } from './first-answers.ts';
import { guessOwner } from './guess-owner.ts';
import {
  firstIncident,
  knownLsn,
  withAlert,
  withCulprit,
  withEnd,
  withEvent,
  withGuard,
  withHeld,
  withoutHold,
  withResolution,
} from './incident-states.ts';
import type { ResponseTools } from './response-tools.ts';
import type { EndedWith, Sighting } from './sighting.ts';
import { type Hold, holdSnapshot, SnapshotHold } from './snapshot-hold.ts';
import { switchTablesOff } from './switch-tables-off.ts';

type NoteFacts = Readonly<Record<string, number>>;
type OnChange = (response: DisasterResponse) => void;

/** What is done about one disaster, from the first sight of it until nothing is held for it any more. */
export class DisasterResponse {
  readonly #tools: ResponseTools;
  readonly #onChange: OnChange;
  /** Null as long as nothing was received. */
  #startLsn: bigint | null;
  #incident: Incident;
  #hold: Hold | null = null;
  /** It turned out to be nobody's alarm. */
  #isDismissed = false;
  /** It is an alarm, and on record; before, nobody hears of it. */
  #isTold = false;
  /** One step after the other: the end may be seen while the beginning is still looked into. */
  #steps: Promise<void> = Promise.resolve();
  #autovacuum: readonly AutovacuumRecord[] = [];
  #judgeFor: Sighting['judgeFor'] = () => this.#incident.guard.policy;
  /** Resolves to whether the transaction was told to end. */
  #cancelling: Promise<boolean> = Promise.resolve(false);

  constructor(tools: ResponseTools, incident: Incident, onChange: OnChange) {
    this.#tools = tools;
    this.#onChange = onChange;
    this.#incident = incident;
    this.#startLsn = tools.position() || knownLsn(incident);
    this.#autovacuum = incident.guard.autovacuumBefore ?? [];
  }

  /** Goes on with one that an agent before this one has begun with. `hold`: what is still held for it; null: nothing is. */
  static goOn(
    tools: ResponseTools,
    { left, hold, onChange }: { left: Incident; hold: DetachedHold | null; onChange: OnChange },
  ): DisasterResponse {
    const incident = hold === null ? withoutHold(left) : left;
    const response = new DisasterResponse(tools, incident, onChange);
    response.#isTold = true;
    response.#hold = hold;
    hold?.whenLost(() => response.#lose(hold));
    response.#step(() => response.#put(incident));
    return response;
  }

  /** Holds again what still runs. */
  holdAgain(database: string): void {
    this.#step(async () => {
      const hold = await this.#holdOf(database);
      if (this.#incident.transaction.outcome !== 'running') return hold.release();
      this.#takeHold(hold, true);
      await this.#put(this.#incident);
    });
  }

  /** Responds to what was just seen. What is urgent is sent before this returns. */
  static begin(tools: ResponseTools, sighting: Sighting, onChange: OnChange): DisasterResponse {
    const incident = firstIncident(tools.origin(), { ...sighting, at: new Date() });
    const response = new DisasterResponse(tools, incident, onChange);
    const { policy, canHold, isOver, database } = sighting;
    const holding = policy !== 'alert' && canHold ? response.#holdOf(database) : null;
    // Who it is may be known already, and may turn out to be somebody who is allowed to: then he must not be cancelled.
    if (policy === 'cancel' && !isOver) response.#cancelling = response.#cancel(sighting);
    // Looked at when the transaction ends.
    response.#cancelling.catch(() => undefined);
    response.#judgeFor = sighting.judgeFor;
    response.#steps = response.#begin(sighting, holding).catch(error => response.#tellProblem(error));
    return response;
  }

  get incident(): Incident {
    return this.#incident;
  }

  get isDismissed(): boolean {
    return this.#isDismissed;
  }

  /** Something is kept on the server for it. */
  get isHolding(): boolean {
    const isHeld = this.#hold !== null && !this.#hold.isOver;
    return isHeld || this.#autovacuum.length > 0 || this.#incident.transaction.outcome === 'running';
  }

  get hold(): Hold | null {
    return this.#hold;
  }

  /** How much log was written since. */
  get writtenBytes(): number {
    const position = this.#tools.position();
    if (position > 0n) this.#startLsn ??= position;
    return this.#startLsn === null ? 0 : Number(position - this.#startLsn);
  }

  settled(): Promise<void> {
    return this.#steps;
  }

  /** More was done, and it still runs. */
  progress(tables: readonly IncidentTable[]): void {
    this.#step(async () => {
      if (this.#incident.transaction.outcome !== 'running') return;
      await this.#put({ ...this.#incident, tables });
    });
  }

  /** It ended, or was prepared. */
  end(end: WalTransaction, did: EndedWith): void {
    this.#step(() => this.#end(end, did));
  }

  /** It is undone without a word of its own in the log, as where the server was started anew meanwhile. */
  lost(why = 'the server was started anew, which undid it'): void {
    this.#step(async () => {
      if (this.#incident.transaction.outcome !== 'running') return;
      const transaction = { ...this.#incident.transaction, outcome: 'rolled back' as const };
      await this.#rolledBack({ ...this.#incident, transaction }, why);
    });
  }

  /** It was seen before, by an agent before this one or before anybody watched. */
  dismiss(): void {
    this.#step(async () => this.#letPass());
  }

  /** It was committed, but what was seen of it had been rolled back to a savepoint before. */
  withdrawn(end: WalTransaction): void {
    this.#step(async () => {
      const cancelled = await this.#wasCancelled();
      const transaction = { ...this.#incident.transaction, xid: end.xid, outcome: 'rolled back' as const };
      const guard = { ...this.#incident.guard, cancelled };
      await this.#rolledBack({ ...this.#incident, transaction, guard }, 'it was rolled back to a savepoint');
    });
  }

  /** Corrects what was counted, when more of the log was read. */
  correct(tables: readonly IncidentTable[]): void {
    this.#step(async () => {
      const next = { ...this.#incident, tables };
      await this.#put(withEvent(next, 'counted', `read again from its beginning: ${describeIncident(next)}`));
    });
  }

  /** Lets go of the snapshot. */
  release(why: string): void {
    this.#step(async () => {
      if (this.#hold === null || this.#hold.isOver) return;
      this.#hold.release();
      await this.#put(withEvent(this.#incident, 'released', `the snapshot is released: ${why}`));
      this.#note('info', 'released', `the snapshot held for ${this.#incident.id} is released: ${why}`);
    });
  }

  /** Somebody has resolved it: takes over what he wrote. */
  resolved(
    stored: Incident,
    putBack: (records: readonly AutovacuumRecord[]) => Promise<readonly LeftTable[]>,
  ): void {
    this.#step(async () => {
      const isHeld = this.#hold !== null && !this.#hold.isOver;
      this.#hold?.release();
      if (isHeld) this.#add('released', 'the snapshot is released');
      const left = await putBack(this.#autovacuum);
      this.#autovacuum = left.map(({ record }) => record);
      for (const { problem } of left) this.#note('warning', 'autovacuum', problem);
      await this.#put({ ...this.#incident, status: stored.status, resolution: stored.resolution });
    });
  }

  #holdOf(database: string): Promise<SnapshotHold> {
    const { sessions, holdForMs } = this.#tools;
    return holdSnapshot(sessions, { database, forMs: holdForMs, onLost: hold => this.#lose(hold) });
  }

  #step(work: () => Promise<void>): void {
    this.#steps = this.#steps.then(async () => {
      if (this.#isDismissed) return;
      await work().catch(error => this.#tellProblem(error));
    });
  }

  #tellProblem(error: unknown): void {
    this.#note('warning', 'problem', `the incident ${this.#incident.id}: ${messageOf(error)}`);
  }

  #note(level: 'info' | 'warning' | 'error', topic: string, text: string, facts: NoteFacts = {}): void {
    this.#tools.note(level, text, { topic, incident: this.#incident.id, ...facts });
  }

  async #begin(sighting: Sighting, holding: Promise<SnapshotHold> | null): Promise<void> {
    const { hold, owner, problems } = await firstAnswers(holding, sighting.owner);
    const policy = sighting.judgeFor(owner ?? null);
    // A subtransaction of one that is known: it belongs to that one's incident. One that has ended meanwhile, and so is known
    // by now, may be its own.
    const isPart = owner?.topXid != null && owner.topXid !== sighting.xid && this.#tools.isLeft(owner.topXid);
    if (policy === null || isPart) {
      hold?.release();
      this.#letPass();
      return;
    }
    if (policy !== this.#incident.guard.policy)
      this.#incident = { ...this.#incident, guard: { ...this.#incident.guard, policy } };
    if (owner != null) this.#identify(owner, false);
    if (policy === 'alert') hold?.release();
    else if (hold !== null) this.#takeHold(hold, owner != null);
    for (const problem of problems) this.#add('problem', problem);
    // One that nobody runs has ended: what the log says of that is on its way.
    if (sighting.isOver || owner === null) return;
    // It may be tried only, and taken back: a snapshot is held, and nobody is told before it commits.
    if (policy !== 'cancel' && owner?.application === CONSOLE_APPLICATION) return;
    this.#isTold = true;
    const { id, detectedAt } = this.#incident;
    const detectedMs = Date.parse(detectedAt);
    this.#note('warning', 'incident', `${describeIncident(this.#incident)} (${id})`, { detectedMs });
    this.#alert(this.#incident);
    await this.#put(this.#incident);
  }

  /** Tells people. What the channels did with it is written down when they have done it. */
  #alert(incident: Incident): void {
    void this.#tools.alert(incident).then(outcomes => {
      if (outcomes.length > 0) this.#step(() => this.#put(withAlert(this.#incident, outcomes)));
    });
  }

  /** A snapshot that was taken too late sees what everybody sees. `isKnown`: the number is not a subtransaction's. */
  #takeHold(hold: SnapshotHold, isKnown: boolean): void {
    this.#hold = hold;
    this.#incident = withHeld(this.#incident, hold);
    if (isKnown) this.#checkHold(this.#incident.transaction.xid);
  }

  #checkHold(xid: number): void {
    if (this.#hold === null || this.#hold.seesBefore(xid)) return;
    this.#hold.release();
    this.#hold = null;
    const { guard } = this.#incident;
    this.#incident = { ...this.#incident, guard: { ...guard, snapshot: null } };
    this.#add('not held', 'the transaction had been committed before the snapshot was taken: it is released');
  }

  async #cancel(sighting: Sighting): Promise<boolean> {
    const done = await cancelSighted(this.#tools.sessions, sighting);
    if (done !== null) this.#add(done.event, done.text);
    return done?.event === 'cancelled';
  }

  async #wasCancelled(): Promise<boolean> {
    try {
      return await this.#cancelling;
    } catch (error) {
      this.#add('not cancelled', `the transaction could not be cancelled: ${messageOf(error)}`);
      return false;
    }
  }

  #identify(owner: TransactionOwner, isLikely: boolean): void {
    const incident = withCulprit(this.#incident, owner, isLikely);
    const xid = owner.topXid ?? incident.transaction.xid;
    this.#incident = { ...incident, transaction: { ...incident.transaction, xid } };
  }

  async #end(end: WalTransaction, { tables, rule }: EndedWith): Promise<void> {
    const cancelled = await this.#wasCancelled();
    this.#incident = withEnd({ ...this.#incident, rule: rule ?? this.#incident.rule }, end, tables);
    const { outcome } = this.#incident.transaction;
    if (outcome === 'rolled back') {
      const guard = { ...this.#incident.guard, cancelled };
      const why = cancelled ? 'it was cancelled by the guard' : 'it was rolled back';
      await this.#rolledBack({ ...this.#incident, guard }, why);
    } else if (outcome === 'prepared') {
      this.#isTold = true;
      await this.#put(this.#incident);
    } else await this.#committed(end);
  }

  async #committed(end: WalTransaction): Promise<void> {
    this.#checkHold(end.xid);
    // It was quicker than the question whose it is; the session may still say so, and may be one that is allowed to.
    if (this.#incident.culprit === null && !(await this.#guessOwner(end))) return;
    const { id, guard } = this.#incident;
    this.#note('error', 'disaster', `${describeIncident(this.#incident)} (${id})`, { xid: end.xid });
    this.#isTold = true;
    this.#add('reported', 'the agent has told of it in its own output');
    this.#alert(this.#withGuard(this.#incident));
    await this.#put(this.#incident);
    if (guard.policy === 'alert') return;
    await this.#detach();
    await this.#keepRows();
  }

  /** Gives the snapshot to a process that outlives this one. Where that cannot be, it is held here. */
  async #detach(): Promise<void> {
    const own = this.#hold;
    if (!(own instanceof SnapshotHold) || own.isOver) return;
    const detached = await this.#tools.detach(this.#incident.id, own);
    if (detached === null) return;
    this.#hold = detached;
    detached.whenLost(() => this.#lose(detached));
    await this.#put(withHeld(this.#incident, detached));
    detached.follow(own);
  }

  async #rolledBack(next: Incident, why: string): Promise<void> {
    this.#hold?.release();
    if (!this.#isTold) return this.#letPass();
    this.#incident = this.#withGuard(withResolution(next, `${why}: nothing is lost`));
    this.#note('info', 'incident over', `${describeIncident(this.#incident)} (${next.id})`);
    this.#alert(this.#incident);
    await this.#put(this.#incident);
  }

  /** False when it turns out to be nobody's alarm. */
  async #guessOwner(end: WalTransaction): Promise<boolean> {
    const owner = await guessOwner(this.#tools.sessions, this.#incident.tables, end);
    if (owner === null) return true;
    if (!this.#isTold && this.#judgeFor(owner) === null) {
      this.#letPass();
      return false;
    }
    this.#identify(owner, true);
    return true;
  }

  /** It is nobody's alarm. */
  #letPass(): void {
    this.#hold?.release();
    this.#isDismissed = true;
    this.#onChange(this);
  }

  /** Switches autovacuum off where rows were deleted or updated; what it was before is written down first. */
  async #keepRows(): Promise<void> {
    const counted = this.#incident.tables.filter(({ act }) => act === 'delete' || act === 'update');
    const done = await switchTablesOff(this.#tools.sessions, worstFirst(counted), async record => {
      this.#autovacuum = [...this.#autovacuum, record];
      await this.#put(this.#incident);
    });
    for (const { event, text } of done) this.#add(event, text);
    await this.#put(this.#incident);
  }

  #lose(hold: Hold): void {
    this.#step(async () => {
      if (this.#hold !== hold) return;
      const text = 'the snapshot is gone: the session that held it was lost';
      this.#note('error', 'hold lost', `${text} (${this.#incident.id})`);
      await this.#put(withEvent(this.#incident, 'hold lost', text));
    });
  }

  #add(event: string, text: string): void {
    this.#incident = withEvent(this.#incident, event, text);
  }

  #withGuard(incident: Incident): Incident {
    return withGuard(incident, { hold: this.#hold, autovacuum: this.#autovacuum });
  }

  async #put(incident: Incident): Promise<void> {
    this.#incident = this.#withGuard(incident);
    if (this.#isTold) await this.#tools.keeper.put(this.#incident, { isHolding: this.isHolding });
    this.#onChange(this);
  }
}
