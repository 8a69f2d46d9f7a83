import { delay } from '../base/abort.ts';
import { messageOf } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { readNextXid } from '../engines/postgres/transaction-owner.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import type { Alerting } from '../notify/alerting.ts';
import { type ChannelOutcome, notify } from '../notify/notify.ts';
import type { Incident } from '../operations/incident/incident.ts';
import { putTablesBack } from '../operations/incident/put-tables-back.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { ChangeRates } from './change-rates.ts';
import { DatabaseSessions } from './database-sessions.ts';
import { Detector } from './detector.ts';
import { DisasterResponse } from './disaster-response.ts';
import { DueTimes } from './due-times.ts';
import { EarlierTransactions } from './earlier-transactions.ts';
import { countedTables, lostTables } from './findings.ts';
import { HeldSnapshots } from './held-snapshots.ts';
import { IncidentKeeper } from './incident-keeper.ts';
import { incidentNotification } from './incident-notification.ts';
import { rateIncident } from './incident-states.ts';
import { LeftIncidents } from './left-incidents.ts';
import { LiveTables } from './live-tables.ts';
import type { OpenTransaction } from './open-transaction.ts';
import type { ResponseTools } from './response-tools.ts';
import { isAllowed } from './rules.ts';
import { SeenPosition } from './seen-position.ts';
import type { Sighting } from './sighting.ts';
import { type StreamPlace, StreamReader } from './stream-reader.ts';
import { WarmDatabases } from './warm-databases.ts';
import type { WatchSettings } from './watch-settings.ts';
import type { WatchStatus } from './watch-status.ts';

export interface WatchOptions {
  readonly context: Pick<InstanceContext, 'instance' | 'repository' | 'connection' | 'toolVersion'>;
  readonly settings: WatchSettings;
  /** Where copies of incidents are kept, for its owner alone. */
  readonly directory: string;
  readonly alerting: Alerting;
  readonly note: TellNote;
  /** The program and the arguments that hold a snapshot in a process of its own. */
  readonly holder: readonly string[];
}

const TICK_MS = 1000;
/** Whether somebody has resolved what is held for. */
const LOOK_FOR_RESOLVED_MS = 5000;
const CLOSE_MS = 5000;
/** People are told without the rows from before, when these take longer. */
const EARLIER_MS = 3000;

/** Looks at the log as it is received, notices disasters, and does about them what the policy says. */
export class Watch {
  readonly #options: WatchOptions;
  readonly #sessions: DatabaseSessions;
  readonly #tables: LiveTables;
  readonly #keeper: IncidentKeeper;
  readonly #rates: ChangeRates;
  readonly #detector: Detector;
  readonly #reader: StreamReader;
  readonly #tools: ResponseTools;
  readonly #seen: SeenPosition;
  readonly #earlier: EarlierTransactions;
  /** By transaction, as long as that runs. */
  readonly #running = new Map<OpenTransaction, DisasterResponse>();
  /** Those for which something is held, or which are not over. */
  readonly #responses = new Set<DisasterResponse>();
  readonly #left: LeftIncidents;
  readonly #held: HeldSnapshots;
  /** Of a transaction that runs on and on, the repository hears less and less often. */
  readonly #progress = new DueTimes<DisasterResponse>();
  /** What could not be put back is tried again, as when the server was in recovery mode. */
  readonly #lettingGo = new DueTimes<DisasterResponse>();
  readonly #stop = new AbortController();
  readonly #warm: WarmDatabases;
  #work: Promise<unknown> = Promise.resolve();
  #place: StreamPlace | null = null;
  #problem: string | null = null;
  #dismissed = 0;

  constructor(options: WatchOptions) {
    this.#options = options;
    const { context, settings, directory, note } = options;
    this.#sessions = new DatabaseSessions(context.connection);
    this.#seen = new SeenPosition(directory);
    this.#earlier = new EarlierTransactions(context, this.#stop.signal);
    this.#tables = new LiveTables(this.#sessions, () => this.#warm.begin());
    this.#warm = new WarmDatabases(this.#sessions, this.#tables);
    this.#rates = new ChangeRates(directory, this.#tables);
    this.#keeper = new IncidentKeeper({ ...context, directory, note });
    this.#detector = new Detector({
      ...{ settings, sessions: this.#sessions, tables: this.#tables, rates: this.#rates },
      onSight: (transaction, sighting) => this.#onSight(transaction, sighting),
      isKnown: transaction => this.#responseOf(transaction) !== undefined,
      isOld: end => this.#seen.isOld(this.#place, end.lsn),
      onEnd: (transaction, end) => this.#onEnd(transaction, end),
      onSavepointLost: transaction => this.#onSavepointLost(transaction),
      onLost: transactions => {
        for (const each of transactions) this.#responseOf(each)?.lost();
      },
    });
    this.#reader = new StreamReader({
      onRecord: record => this.#detector.counter.add(record),
      onBegin: (lsn, why) => this.#onBegin(lsn, why),
    });
    this.#held = new HeldSnapshots({ ...options, sessions: this.#sessions });
    this.#tools = {
      ...{ sessions: this.#sessions, keeper: this.#keeper, note, holdForMs: settings.holdForMs },
      detach: (incident, hold) => this.#held.detach(incident, hold),
      origin: () => ({
        instance: context.instance,
        toolVersion: context.toolVersion,
        systemIdentifier: this.#place?.systemIdentifier ?? '',
        timeline: this.#place?.timeline ?? 1,
      }),
      alert: incident => this.#alert(incident),
      position: () => this.#reader.position,
      isLeft: xid => this.#left.isLeft(xid),
    };
    this.#left = new LeftIncidents(this.#tools, this.#earlier, this.#onChange);
  }

  /** Goes on with what an agent before this one has left, and begins to watch over what is held. */
  async start(): Promise<void> {
    const { signal } = this.#stop;
    await this.#left.load(this.#options.context);
    this.#work = Promise.all([this.#tables.run(signal), this.#tick(signal)]);
  }

  /** Takes a piece of the log. It never throws: what cannot be read is passed over, and said. */
  push(place: StreamPlace, lsn: bigint, bytes: Uint8Array): void {
    try {
      this.#place = place;
      this.#reader.push(place, lsn, bytes);
      this.#earlier.see(place, lsn, bytes);
      this.#problem = null;
    } catch (error) {
      this.#unreadable(messageOf(error));
    }
  }

  status(): WatchStatus {
    const { policy } = this.#options.settings;
    const held = [...this.#responses].filter(each => each.isHolding).map(heldBy);
    return { policy, problem: this.#problem, held, dismissed: this.#dismissed };
  }

  /** Somebody resolved an incident: lets go of what is held for it. False when nothing is. */
  async resolve(id: string): Promise<boolean> {
    const response = [...this.#responses].find(({ incident }) => incident.id === id);
    if (response === undefined) return false;
    const stored = await this.#keeper.stored(id);
    if (stored === null || stored.status !== 'resolved') return false;
    this.#letGo(response, stored);
    await response.settled();
    await this.#keeper.settled(id);
    return true;
  }

  /** Lets go of all that does not outlive the agent. What could not be stored is stored by the next one. */
  async close(): Promise<void> {
    this.#held.leave(this.#responses);
    // A server that hangs does not hold up the end.
    await atMost(CLOSE_MS, Promise.all([...this.#responses].map(each => each.settled())));
    await this.#keeper.close(CLOSE_MS);
    this.#stop.abort();
    await atMost(CLOSE_MS, this.#work);
    await this.#seen.save(this.#place, this.#reader.position, true).catch(() => undefined);
    await this.#rates.save(true).catch(() => undefined);
    this.#sessions.close();
  }

  #responseOf(transaction: OpenTransaction): DisasterResponse | undefined {
    const own = this.#running.get(transaction);
    if (own !== undefined || this.#running.size === 0) return own;
    for (const sub of transaction.subs) {
      const response = this.#running.get(sub);
      if (response !== undefined) return response;
    }
    return undefined;
  }

  #onSight(transaction: OpenTransaction, sighting: Sighting): void {
    const left = this.#left.responseOf(transaction.xid);
    if (left === null) return;
    const response = left ?? DisasterResponse.begin(this.#tools, sighting, this.#onChange);
    this.#running.set(transaction, response);
    this.#responses.add(response);
    // What is known now is told at once.
    this.#progress.isDue(response);
  }

  #onEnd(transaction: OpenTransaction, end: WalTransaction): void {
    this.#warm.see(transaction);
    const own = this.#responseOf(transaction);
    const left = this.#left.responseOf(end.xid);
    // Only now it is known whose subtransaction was seen.
    if (own !== undefined && left !== undefined && own !== left) {
      this.#forget(transaction);
      own.dismiss();
    }
    const response = left === undefined ? own : left;
    if (response == null) return;
    if (left === undefined && this.#seen.isOld(this.#place, end.lsn)) {
      this.#forget(transaction);
      response.dismiss();
      return;
    }
    const counted = countedTables(transaction, this.#tables);
    if (end.droppedRelations.length + transaction.databasesDropped.length > 0)
      void this.#endWithLost({ response, transaction, end, counted });
    else this.#endCounted({ response, transaction, end, counted });
    if (end.kind === 'prepare') return;
    this.#forget(transaction);
    this.#left.setOver(end.xid);
  }

  async #endWithLost(ended: Ended): Promise<void> {
    const { response, transaction, end, counted } = ended;
    const lost = await lostTables(transaction, end, this.#tables).catch(() => []);
    const known = response.incident.tables.filter(({ rows }) => rows === null);
    response.end(end, { tables: [...(lost.length > 0 ? lost : known), ...counted], rule: null });
  }

  #endCounted({ response, transaction, end, counted }: Ended): void {
    const isCommit = end.kind === 'commit' || end.kind === 'commit prepared';
    const isCounted = response.incident.tables.some(({ rows }) => rows !== null);
    const rule = isCounted ? this.#detector.ruleOf(transaction) : null;
    if (isCommit && isCounted && transaction.isWhole && rule === null) response.withdrawn(end);
    else if (isCommit && this.#left.responseOf(end.xid) != null)
      void this.#endLeft({ response, transaction, end, counted });
    else response.end(end, { tables: counted.length > 0 ? counted : response.incident.tables, rule });
  }

  /** Of one that an agent before this one has seen begin, the rows are added up from the archive. */
  async #endLeft({ response, transaction, end, counted }: Ended): Promise<void> {
    const whole = this.#earlier.add(transaction, end.subxids);
    const soon = await Promise.race([whole, delay(EARLIER_MS, this.#stop.signal).then(() => null)]).catch(
      () => null,
    );
    const known = counted.length > 0 ? counted : response.incident.tables;
    response.end(end, { tables: soon === null ? known : countedTables(soon, this.#tables), rule: null });
    if (soon !== null) return;
    const late = await whole.catch(() => null);
    if (late !== null) response.correct(countedTables(late, this.#tables));
  }

  #forget(transaction: OpenTransaction): void {
    for (const each of [transaction, ...transaction.subs]) this.#running.delete(each);
  }

  #onProgress(transaction: OpenTransaction): void {
    const response = this.#responseOf(transaction);
    if (response !== undefined && !response.incident.tables.some(({ rows }) => rows === null))
      response.progress(countedTables(transaction, this.#tables));
  }

  /** What was seen of a subtransaction that was rolled back is the whole's to tell of, when that ends. */
  #onSavepointLost(whole: OpenTransaction): void {
    for (const [each, response] of this.#running) {
      if (each === whole || each.root !== whole) continue;
      this.#running.delete(each);
      if (this.#running.has(whole)) response.lost('it was rolled back to a savepoint');
      else this.#running.set(whole, response);
    }
    if (countedTables(whole, this.#tables).length > 0) this.#onProgress(whole);
  }

  readonly #onChange = (response: DisasterResponse): void => {
    if (response.isDismissed) {
      this.#dismissed += 1;
      this.#responses.delete(response);
      for (const [transaction, each] of this.#running) {
        if (each !== response) continue;
        this.#forget(transaction);
        if (!transaction.isEnded) this.#detector.lookOn(transaction.root);
      }
    } else if (!response.isHolding) this.#responses.delete(response);
    else this.#responses.add(response);
  };

  #onBegin(lsn: bigint, why: 'first' | 'gap' | 'timeline' | 'unreadable'): void {
    const { counter } = this.#detector;
    this.#earlier.begin(lsn);
    if (this.#place !== null) this.#seen.begin(this.#place);
    counter.begin();
    if (why === 'timeline') counter.reset();
    if (why === 'unreadable') this.#unreadable('a part of the log could not be read');
    void this.#findWhole().catch(() => undefined);
  }

  /** Transactions that begin from now on are seen from their beginning. */
  async #findWhole(): Promise<void> {
    const { counter } = this.#detector;
    counter.wholeFrom(await this.#sessions.control(readNextXid));
  }

  #unreadable(problem: string): void {
    if (this.#problem === null)
      this.#options.note('warning', `the watch has passed over some log: ${problem}`, { topic: 'watch' });
    this.#problem = problem;
  }

  async #tick(signal: AbortSignal): Promise<void> {
    let resolvedMs = performance.now();
    while (!signal.aborted) {
      await delay(TICK_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      this.#tellProgress();
      this.#held.keepLimits(this.#responses);
      this.#sessions.giveWay();
      await this.#seen.save(this.#place, this.#reader.position).catch(() => undefined);
      await this.#lookAtRates().catch(() => undefined);
      if (performance.now() - resolvedMs < LOOK_FOR_RESOLVED_MS) continue;
      await this.#lookForResolved().catch(() => undefined);
      await this.#held.look(this.#responses).catch(() => undefined);
      resolvedMs = performance.now();
    }
  }

  #tellProgress(): void {
    for (const [transaction, response] of this.#running)
      if (this.#progress.isDue(response)) this.#onProgress(transaction.root);
  }

  /** Tables that change far more than usual. It is only told: which rows were wrong, nobody can say. */
  async #lookAtRates(): Promise<void> {
    const { rate, rows } = this.#options.settings;
    for (const found of this.#rates.take(rows)) {
      if (!rate || isAllowed(this.#options.settings, found.table, { actor: null, at: new Date() })) continue;
      const incident = rateIncident(this.#tools.origin(), found, this.#rates.lastXid);
      this.#options.note('warning', `${incident.rule.explanation} (${incident.id})`, {
        topic: 'incident',
        incident: incident.id,
      });
      void this.#alert(incident);
      await this.#keeper.put(incident, { isHolding: false });
    }
    await this.#rates.save();
  }

  async #lookForResolved(): Promise<void> {
    for (const response of this.#responses) {
      if (!response.isHolding) continue;
      const stored = await this.#keeper.stored(response.incident.id);
      if (stored?.status === 'resolved' && this.#lettingGo.isDue(response)) this.#letGo(response, stored);
    }
  }

  #letGo(response: DisasterResponse, stored: Incident): void {
    response.resolved(stored, records => putTablesBack(database => this.#sessions.open(database), records));
  }

  async #alert(incident: Incident): Promise<readonly ChannelOutcome[]> {
    const { alerting, settings, note } = this.#options;
    if (alerting.channels.length === 0) return [];
    const { outcomes, problems } = await notify(alerting, incidentNotification(incident, settings), {
      signal: this.#stop.signal,
    });
    for (const problem of problems)
      note('warning', problem, { topic: 'notification', incident: incident.id });
    return outcomes;
  }
}

/** Waits for work that never fails, but not longer than this. */
async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  await Promise.race([work, delay(ms, over.signal)]);
  over.abort();
}

function heldBy({ incident, hold }: DisasterResponse): WatchStatus['held'][number] {
  return {
    incident: incident.id,
    outcome: incident.transaction.outcome,
    snapshot: hold !== null && !hold.isOver ? hold.record : null,
    outlivesAgent: hold !== null && !hold.isOver && hold.outlivesAgent,
    autovacuumOff: incident.guard.autovacuumOff,
  };
}

interface Ended {
  readonly response: DisasterResponse;
  readonly transaction: OpenTransaction;
  readonly end: WalTransaction;
  readonly counted: ReturnType<typeof countedTables>;
}
