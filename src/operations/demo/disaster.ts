import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import { fingerprintShop, openShop, type TableFingerprint } from './shop.ts';
import type { ShopWriters } from './shop-writers.ts';

export interface Disaster {
  readonly statement: string;
  /** Every table exactly as it was just before the deletion was committed. */
  readonly before: readonly TableFingerprint[];
  /** The application's sales until then. */
  readonly salesBefore: number;
  readonly usersDeleted: number;
  /** Orders that were there before and are gone, by their foreign key. */
  readonly ordersLost: number;
  /** The highest order that was there before. */
  readonly lastOrder: number;
  /** By this machine's clock, in milliseconds since 1970: when it began, and when its COMMIT was answered. */
  readonly startedMs: number;
  readonly answeredMs: number;
  readonly seconds: number;
}

const STATEMENT = 'DELETE FROM users WHERE 1=1';

/** What the application's own side may take to hear of a sale that the server has committed. */
const SETTLE_MS = 50;

/**
 * Deletes all users under a running application, and knows exactly what there was before: once the rows are deleted and
 * before that is committed, another session takes a snapshot. Every sale that goes on meanwhile waits for the deletion, as
 * the row of its customer is locked, so nothing is committed between snapshot and deletion. The tables are read from that
 * snapshot afterwards, which shows them as they were, whatever happened since.
 */
export async function causeDisaster(settings: ConnectionSettings, writers: ShopWriters): Promise<Disaster> {
  const developer = await openShop(settings);
  const witness = await openShop(settings);
  try {
    const [startedAt, startedMs] = [performance.now(), Date.now()];
    await developer.query('begin');
    const usersDeleted = (await developer.query(STATEMENT)).rowCount ?? 0;
    await sleep(SETTLE_MS);
    const salesBefore = writers.counts().committed;
    await witness.query('begin isolation level repeatable read read only');
    await witness.query('select 1 from users limit 1');
    await developer.query('commit');
    const [seconds, answeredMs] = [(performance.now() - startedAt) / 1000, Date.now()];

    const before = await fingerprintShop(witness);
    const last = await witness.query<{ id: string }>('select max(id) as id from orders');
    await witness.query('commit');
    const left = await developer.query<{ count: string }>('select count(*) from orders');
    const orders = before.find(print => print.table === 'orders')?.rows ?? 0;
    return {
      statement: STATEMENT,
      before,
      salesBefore,
      usersDeleted,
      ordersLost: orders - Number(left.rows[0]?.count),
      lastOrder: Number(last.rows[0]?.id),
      startedMs,
      answeredMs,
      seconds,
    };
  } finally {
    await Promise.allSettled([developer.end(), witness.end()]);
  }
}
