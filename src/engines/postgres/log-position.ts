import type pg from 'pg';
import { queryRow } from './connection.ts';
import { parseLsn } from './lsn.ts';

/** How far a server's log is on the disk. @throws DATABASE_FAILED (on a standby) DATABASE_UNREACHABLE */
export async function readFlushedLsn(client: pg.Client, signal: AbortSignal): Promise<bigint> {
  const text = 'select pg_current_wal_flush_lsn()::text as lsn';
  const { lsn } = await queryRow<{ lsn: string }>(client, 'read how far the log is written', {
    text,
    signal,
  });
  return parseLsn(lsn);
}
