import type pg from 'pg';
import { delay } from '../../base/abort.ts';
import { queryRow } from './connection.ts';

/** The server's transactions at one moment. */
export interface WriteMark {
  /** The number that the next transaction to write anything will get. */
  readonly nextXid: bigint;
  readonly lsn: string;
}

const markSql = `
  select pg_snapshot_xmax(pg_current_snapshot())::text as "nextXid", pg_current_snapshot()::text as snapshot,
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn`;

/**
 * The log's position alone proves nothing: the server itself writes to it now and then. Whoever changes anything takes a
 * transaction number first, so two marks with the same number mean that nobody began to write in between.
 * @source PostgreSQL manual, "Transaction ID and Snapshot Information Functions"
 */
export async function readMark(client: pg.Client): Promise<WriteMark & { readonly snapshot: string }> {
  const row = await queryRow<{ nextXid: string; snapshot: string; lsn: string }>(
    client,
    'see whether anybody writes',
    { text: markSql },
  );
  return { ...row, nextXid: BigInt(row.nextXid) };
}

export interface WriteWatch extends AsyncDisposable {
  /** When a transaction was last seen to begin or end a write, as `performance.now()`; null: never since it watches. */
  lastWriteAt(): number | null;
  /** What is written in this time does not count: it is the caller's own. */
  ignore<T>(own: () => Promise<T>): Promise<T>;
}

const POLL_MS = 2;

/**
 * Looks at the server's transactions again and again, on a connection of its own, which it ends. It begins when that is
 * open; when it cannot be opened, nothing is seen.
 */
export function watchWrites(opening: Promise<pg.Client>): WriteWatch {
  let stopping = false;
  let ignored = 0;
  let last: number | null = null;
  let known: string | null = null;
  const look = async (client: pg.Client): Promise<void> => {
    while (!stopping) {
      const { snapshot } = await readMark(client);
      if (known !== null && snapshot !== known && ignored === 0) last = performance.now();
      known = snapshot;
      await delay(POLL_MS);
    }
  };
  const watching = opening.then(client => look(client).finally(() => client.end().catch(() => undefined)));
  // Its end by itself is that of the server: so was every write.
  watching.catch(() => undefined);
  return {
    lastWriteAt: () => last,
    async ignore(own) {
      ignored += 1;
      try {
        return await own();
      } finally {
        ignored -= 1;
        known = null;
      }
    },
    async [Symbol.asyncDispose]() {
      stopping = true;
      await watching.catch(() => undefined);
    },
  };
}

/** Whether a transaction that begins now, in a session like this, may write and gets the number that every write begins with. */
export async function canWrite(client: pg.Client): Promise<boolean> {
  const { may } = await queryRow<{ may: boolean }>(client, 'see whether a transaction can write', {
    text: `select current_setting('transaction_read_only') = 'off' and not pg_is_in_recovery() as may`,
  });
  if (!may) return false;
  await queryRow(client, 'see whether a transaction can write', {
    text: 'select pg_current_xact_id()::text as xid',
  });
  return true;
}
