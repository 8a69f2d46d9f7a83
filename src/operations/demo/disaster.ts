import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import { fingerprintShop, openShop, type TableFingerprint } from './shop.ts';
import type { ShopWriters } from './shop-writers.ts';

export interface Disaster {
  readonly statement: string;
  /** The last moment before it, with microseconds, ISO 8601 in UTC: every transaction so far was committed earlier. */
  readonly target: string;
  /** Every table exactly as it was at `target`. */
  readonly atTarget: readonly TableFingerprint[];
  /** The application's sales until `target`. */
  readonly salesAtTarget: number;
  readonly usersDeleted: number;
  /** Orders that were there at `target` and are gone, by their foreign key. */
  readonly ordersLost: number;
  readonly seconds: number;
}

const STATEMENT = 'DELETE FROM users WHERE 1=1';

/**
 * Deletes all users under a running application, and knows exactly what there was before: while the writers stand still
 * for a moment, one session takes a snapshot of the database and of the time, and another begins the DELETE. The writers
 * go on while it runs. The tables are read from that snapshot afterwards, which shows them as they were, whatever
 * happened since.
 */
export async function causeDisaster(settings: ConnectionSettings, writers: ShopWriters): Promise<Disaster> {
  const developer = await openShop(settings);
  const witness = await openShop(settings);
  try {
    await writers.pause();
    const salesAtTarget = writers.counts().committed;
    // Commit times are in microseconds: with a pause on both sides, none can be equal to the target.
    await sleep(2);
    await witness.query('begin isolation level repeatable read read only');
    const { rows } = await witness.query<{ target: string }>(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as target`,
    );
    await sleep(2);
    const startedAt = performance.now();
    const deletion = developer.query(STATEMENT);
    writers.resume();
    const usersDeleted = (await deletion).rowCount ?? 0;
    const seconds = (performance.now() - startedAt) / 1000;

    const atTarget = await fingerprintShop(witness);
    await witness.query('commit');
    const left = await developer.query<{ count: string }>('select count(*) from orders');
    const orders = atTarget.find(print => print.table === 'orders')?.rows ?? 0;
    return {
      statement: STATEMENT,
      target: rows[0]?.target ?? '',
      atTarget,
      salesAtTarget,
      usersDeleted,
      ordersLost: orders - Number(left.rows[0]?.count),
      seconds,
    };
  } finally {
    writers.resume();
    await Promise.allSettled([developer.end(), witness.end()]);
  }
}
