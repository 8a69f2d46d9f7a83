import { AppError } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import type { Disaster } from './disaster.ts';
import { fingerprintShop, openShop, type TableFingerprint } from './shop.ts';
import type { ShopWriters } from './shop-writers.ts';

export interface TableProof {
  readonly table: string;
  readonly rows: number;
  readonly checksum: string;
  readonly rowsRestored: number;
  readonly checksumRestored: string;
}

/**
 * Compares every table, as the restore left it, with what it was before the disaster; lets the application come back.
 *
 * @throws VERIFICATION_FAILED names the tables that differ
 */
export async function proveRecovery(
  settings: ConnectionSettings,
  after: { readonly disaster: Disaster; readonly writers: ShopWriters },
  onEvent: OnEvent,
): Promise<TableProof[]> {
  const step = {
    id: 'demo-proof',
    title: 'Compared every table with what it was just before the DELETE',
    detail: (tables: readonly TableProof[]) =>
      `${tables.length} of ${tables.length} equal, row counts and checksums`,
  };
  return runStep(onEvent, step, async () => {
    const restored = await fingerprintBefore(settings, after.writers);
    const tables = after.disaster.before.map(({ table, rows, checksum }): TableProof => {
      const found = restored.find(print => print.table === table);
      return {
        table,
        rows,
        checksum,
        rowsRestored: found?.rows ?? 0,
        checksumRestored: found?.checksum ?? '',
      };
    });
    const different = tables.filter(t => t.rows !== t.rowsRestored || t.checksum !== t.checksumRestored);
    if (different.length === 0) return tables;
    throw new AppError(
      'VERIFICATION_FAILED',
      `unable to bring back ${different.map(t => t.table).join(', ')} as before`,
      {
        details: { tables },
      },
    );
  });
}

/** A snapshot of the restored tables is taken while the application is still out; it comes back while they are read. */
async function fingerprintBefore(
  settings: ConnectionSettings,
  writers: ShopWriters,
): Promise<TableFingerprint[]> {
  const session = await openShop(settings);
  try {
    await session.query('begin isolation level repeatable read read only');
    await session.query('select 1 from users limit 1');
    writers.resume();
    return await fingerprintShop(session);
  } finally {
    await session.end();
  }
}
