import type { IncidentAct } from '../operations/incident/incident.ts';
import type { RuledTable } from './rules.ts';

/** What one table usually sees. */
interface TableBaseline {
  /** By hour of the day, in UTC: the most rows changed in one window, and on which day that was brought up to date. */
  hours: { peak: number; day: number }[];
  /** The window that runs. */
  window: { startMs: number; rows: number; isTold: boolean };
  /** By what was done: the most rows that one transaction changed, by day. */
  largest: Partial<Record<IncidentAct, { day: number; rows: number }[]>>;
  changedMs: number;
}

/** What is kept from run to run. */
export interface BaselineState {
  readonly version: 1;
  /** Since when it is learned. */
  readonly sinceMs: number;
  readonly tables: Readonly<Record<string, TableBaseline>>;
}

/** A table that changes at a rate far beyond what it usually sees. */
export interface RateFinding {
  readonly table: RuledTable;
  readonly rows: number;
  readonly usual: number;
  readonly windowMs: number;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const WINDOW_MS = 300_000;
/** So long nothing is told of rates: everything is new. */
const LEARN_MS = 3 * DAY_MS;
/** So many times the usual is far beyond it. */
const FAR_BEYOND = 10;
/** What was usual fades by this much a day. */
const FADE = 0.9;
/** What happened on so many of the last days is usual. */
const USUAL_DAYS = 3;
const DAYS_KEPT = 14;
const MOST_TABLES = 5000;

/** Learns what is usual for each table, by the times of commits: how much of it changes at which hour, and by how much at once. */
export class Baseline {
  readonly #sinceMs: number;
  readonly #tables: Map<string, TableBaseline>;

  constructor(known: BaselineState | null, nowMs: number) {
    this.#sinceMs = known?.sinceMs ?? nowMs;
    this.#tables = new Map(Object.entries(known?.tables ?? {}));
  }

  /** The most rows that one transaction does this to in the table, on at least three of the last days; 0 where that is not known. */
  usualRows(table: RuledTable, act: IncidentAct): number {
    const days = this.#tables.get(keyOf(table))?.largest[act] ?? [];
    return days.map(({ rows }) => rows).sort((a, b) => b - a)[USUAL_DAYS - 1] ?? 0;
  }

  /** One transaction changed many rows at once. */
  addLarge(
    table: RuledTable,
    change: { readonly act: IncidentAct; readonly rows: number },
    atMs: number,
  ): void {
    const known = this.#of(table, atMs);
    const today = Math.floor(atMs / DAY_MS);
    const days = (known.largest[change.act] ?? []).filter(({ day }) => today - day < DAYS_KEPT);
    const own = days.find(({ day }) => day === today);
    if (own === undefined) days.push({ day: today, rows: change.rows });
    else own.rows = Math.max(own.rows, change.rows);
    known.largest[change.act] = days;
  }

  /**
   * Rows that were changed, by whatever many transactions. Says once for each window when that is far more than usual, and
   * more than `least`.
   */
  add(
    table: RuledTable,
    rows: number,
    at: { readonly ms: number; readonly least: number },
  ): RateFinding | null {
    const known = this.#of(table, at.ms);
    if (at.ms - known.window.startMs >= WINDOW_MS || at.ms < known.window.startMs) {
      remember(known);
      known.window = { startMs: at.ms - (at.ms % WINDOW_MS), rows: 0, isTold: false };
    }
    known.window.rows += rows;
    if (known.window.isTold || at.ms - this.#sinceMs < LEARN_MS) return null;
    const usual = usualAt(known, at.ms);
    if (known.window.rows < Math.max(at.least, usual * FAR_BEYOND)) return null;
    known.window.isTold = true;
    return { table, rows: known.window.rows, usual, windowMs: WINDOW_MS };
  }

  get state(): BaselineState {
    return { version: 1, sinceMs: this.#sinceMs, tables: Object.fromEntries(this.#tables) };
  }

  #of(table: RuledTable, atMs: number): TableBaseline {
    const key = keyOf(table);
    let known = this.#tables.get(key);
    if (known === undefined) {
      known = {
        hours: Array.from({ length: 24 }, () => ({ peak: 0, day: 0 })),
        window: { startMs: atMs - (atMs % WINDOW_MS), rows: 0, isTold: false },
        largest: {},
        changedMs: atMs,
      };
      this.#tables.set(key, known);
      if (this.#tables.size > MOST_TABLES) this.#forgetOldest();
    }
    known.changedMs = atMs;
    return known;
  }

  #forgetOldest(): void {
    const byAge = [...this.#tables].sort(([, a], [, b]) => a.changedMs - b.changedMs);
    for (const [key] of byAge.slice(0, MOST_TABLES / 10)) this.#tables.delete(key);
  }
}

/** The window that is over becomes part of what is usual at its hour. */
function remember({ hours, window }: TableBaseline): void {
  const hour = hours[hourOf(window.startMs)];
  if (hour === undefined) return;
  hour.peak = Math.max(fadedPeak(hour, window.startMs), window.rows);
  hour.day = Math.floor(window.startMs / DAY_MS);
}

/** The hours before and after count as well: jobs are not always on time. */
function usualAt({ hours }: TableBaseline, ms: number): number {
  const around = [23, 0, 1].map(offset => hours[(hourOf(ms) + offset) % 24]);
  return Math.max(...around.map(hour => (hour === undefined ? 0 : fadedPeak(hour, ms))));
}

function fadedPeak({ peak, day }: TableBaseline['hours'][number], ms: number): number {
  return peak * FADE ** Math.max(0, Math.floor(ms / DAY_MS) - day);
}

function hourOf(ms: number): number {
  return Math.floor(ms / HOUR_MS) % 24;
}

function keyOf({ database, schema, table }: RuledTable): string {
  return JSON.stringify([database, schema, table]);
}
