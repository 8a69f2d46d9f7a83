import { delay } from '../../base/abort.ts';
import { AppError, messageOf } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { WorkUnit } from './plan-hardening.ts';

export interface UnitOutcome extends WorkUnit {
  readonly outcome: 'planned' | 'done' | 'failed' | 'skipped';
  readonly why: string | null;
}

const LOCK_ATTEMPTS = 5;
const LOCK_PAUSE_MS = 500;

interface RunOptions {
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}

/**
 * Runs what was planned, in its order. A table that cannot be locked is passed over: the others get what they need. What
 * else fails ends it; what was committed until then stays, and a later run goes on from there.
 */
export async function runUnits(
  client: Session,
  units: readonly WorkUnit[],
  options: RunOptions,
): Promise<UnitOutcome[]> {
  const outcomes: UnitOutcome[] = [];
  const run = async (unit: WorkUnit): Promise<void> => {
    const ready = !unit.needsAll || outcomes.every(({ outcome }) => outcome === 'done');
    const why = ready ? await runUnit(client, unit, options.signal) : 'something before it was not done';
    outcomes.push({ ...unit, outcome: why === null ? 'done' : ready ? 'failed' : 'skipped', why });
  };
  const tables = units.filter(({ table }) => table !== null);
  let tablesShown = false;
  for (const unit of units) {
    if (unit.table === null) {
      await runStep(options.onEvent, { id: 'statements', title: unit.title }, () => run(unit));
    } else if (!tablesShown) {
      tablesShown = true;
      const detail = (): string => {
        const done = outcomes.filter(({ table, outcome }) => table !== null && outcome === 'done').length;
        return `${done} of ${tables.length}`;
      };
      await runStep(options.onEvent, { id: 'tables', title: 'Tables', detail }, async () => {
        for (const [index, table] of tables.entries()) {
          await run(table);
          options.onEvent({
            ...{ type: 'progress', step: 'tables', doneBytes: 0, totalBytes: 0 },
            ...{ done: index + 1, total: tables.length, unit: 'tables' },
          });
        }
      });
    }
  }
  return outcomes;
}

/** Null when it was done; why not, when its table is busy. @throws what else the server says */
async function runUnit(client: Session, unit: WorkUnit, signal: AbortSignal): Promise<string | null> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await queryRows(client, `change the protection of ${unit.table ?? 'the database'}`, {
        text: unit.sql,
        signal,
      });
      return null;
    } catch (error) {
      await client.query('rollback').catch(() => undefined);
      signal.throwIfAborted();
      if (unit.table !== null && stateOf(error) === '42P01') return 'it does not exist any more';
      // Without what is of no table, nothing else can be done.
      const over = attempt === LOCK_ATTEMPTS;
      if (!isLocked(error) || (over && unit.table === null)) throw error;
      if (over) return `it is in use: ${messageOf(error)}`;
      await delay(LOCK_PAUSE_MS, signal);
    }
  }
}

/** lock_not_available, and deadlock_detected. @source PostgreSQL manual, "PostgreSQL Error Codes" */
function isLocked(error: unknown): boolean {
  return ['55P03', '40P01'].includes(stateOf(error));
}

function stateOf(error: unknown): string {
  return error instanceof AppError ? String(error.details?.['sqlState']) : '';
}
