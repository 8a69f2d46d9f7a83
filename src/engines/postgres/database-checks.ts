import type pg from 'pg';
import type { OnEvent } from '../../base/events.ts';
import { runStep } from '../../base/events.ts';
import { queryRows } from './connection.ts';
import { checkIndexes, checkTables } from './database-checks-amcheck.ts';
import { checkForeignKeys } from './database-checks-foreign-keys.ts';
import { countRows, type TableRows } from './database-checks-rows.ts';
import { type CheckKind, emptyKind, type KindResult, type Session } from './database-checks-run.ts';

export interface DatabaseChecksOptions {
  readonly connect: (database: string) => Promise<pg.Client>;
  /** All that allow connections unless given. */
  readonly databases?: readonly string[];
  /** Time for each kind of check, over all databases. */
  readonly budgetMs: Readonly<Record<CheckKind, number>>;
  /** Also compares every B-tree with its table's rows, which reads both: thorough, and many times slower. False unless given. */
  readonly heapAllIndexed?: boolean;
  /** Of each database at most this many tables are counted: the largest half, and a random half of the rest. 40 unless given. */
  readonly sampledTables?: number;
  readonly onEvent: OnEvent;
  readonly signal?: AbortSignal;
}

export interface DatabaseChecks {
  /** B-trees, with amcheck. */
  readonly indexes: KindResult;
  /** The structure of tables and their TOAST tables, with amcheck. */
  readonly tables: KindResult;
  readonly foreignKeys: KindResult;
  readonly rows: KindResult & { readonly counted: readonly TableRows[] };
  /** Databases in which amcheck is not installed: their indexes and tables were not checked. */
  readonly withoutAmcheck: readonly string[];
  /** No problem was found. What was left for time is not counted against it. */
  readonly ok: boolean;
}

/**
 * Checks what is in the databases of a server, without writing anything, so that it also runs on a hot standby. Each
 * kind of check stops when its time is over; the answer says what was checked and what was left.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED; the signal's reason when cancelled
 */
export async function checkDatabases(options: DatabaseChecksOptions): Promise<DatabaseChecks> {
  const databases = options.databases ?? (await listDatabases(options));
  const withoutAmcheck: string[] = [];
  const counted: TableRows[] = [];
  const step = (
    kind: CheckKind,
    title: string,
    check: (session: Session) => Promise<void>,
  ): Promise<KindResult> =>
    runStep(options.onEvent, { id: `check-${kind}`, title, detail: describe }, () =>
      runKind(kind, databases, options, check),
    );

  const indexes = await step('indexes', 'Checking indexes', async session => {
    const installed = await checkIndexes(session, options.heapAllIndexed ?? false);
    if (!installed) withoutAmcheck.push(session.database);
  });
  const tables = await step('tables', 'Checking tables', checkTables);
  const foreignKeys = await step('foreignKeys', 'Checking foreign keys', checkForeignKeys);
  const rows = await step('rows', 'Counting rows', async session => {
    counted.push(...(await countRows(session, options.sampledTables ?? 40)));
  });
  const ok = [indexes, tables, foreignKeys, rows].every(kind => kind.problems.length === 0);
  return { indexes, tables, foreignKeys, rows: { ...rows, counted }, withoutAmcheck, ok };
}

async function runKind(
  kind: CheckKind,
  databases: readonly string[],
  options: DatabaseChecksOptions,
  check: (session: Session) => Promise<void>,
): Promise<KindResult> {
  const result = emptyKind();
  const deadline = performance.now() + options.budgetMs[kind];
  for (const database of databases) {
    options.signal?.throwIfAborted();
    const client = await options.connect(database);
    try {
      await check({
        client,
        database,
        deadline,
        result,
        onProgress: () =>
          options.onEvent({
            type: 'progress',
            step: `check-${kind}`,
            doneBytes: 0,
            totalBytes: 0,
            done: result.checked,
            total: result.total,
          }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  return result;
}

function describe(result: KindResult): string {
  const left = result.leftForTime > 0 ? `, ${result.leftForTime} left for time` : '';
  const found = result.problems.length > 0 ? `, ${result.problems.length} with problems` : '';
  return `${result.checked} of ${result.total}${found}${left}`;
}

async function listDatabases(options: DatabaseChecksOptions): Promise<string[]> {
  // template1 exists everywhere and allows connections unless somebody forbade it.
  const client = await options.connect('template1');
  try {
    const rows = await queryRows<{ name: string }>(client, 'list the databases', {
      text: 'select datname as name from pg_catalog.pg_database where datallowconn and datconnlimit <> -2 order by 1',
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return rows.map(row => row.name);
  } finally {
    await client.end();
  }
}
