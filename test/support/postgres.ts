import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { createCluster, type EmbeddedCluster } from '../../src/engines/postgres/embedded.ts';

export interface TestClusterOptions {
  readonly version: 14 | 15 | 16 | 17 | 18;
  readonly settings?: Readonly<Record<string, string | number>>;
  readonly checksums?: boolean;
  readonly walSegmentSizeMb?: number;
}

/** A server of one test. At the end of its scope it is stopped and removed. */
export interface TestCluster extends EmbeddedCluster {
  /** Holds the data directory and the server's log; room for the test's own files, owned by the server's account. */
  readonly directory: string;
  /** A client that survives the end of its server (its queries fail); closed with the cluster. */
  connect(database?: string): Promise<pg.Client>;
  /** One statement on a connection of its own; its rows. */
  query<Row extends pg.QueryResultRow = Record<string, unknown>>(
    sql: string,
    values?: unknown[],
  ): Promise<Row[]>;
}

/**
 * Creates and starts a PostgreSQL of the version asked for, as the server's account. fsync is off: tests kill
 * processes, not machines, and what a killed process has written stays in the kernel.
 */
export async function startTestCluster(options: TestClusterOptions): Promise<TestCluster> {
  const { binaries, directory, user } = inject('harness');
  const own = binaries[options.version];
  if (own === undefined) throw new Error(`there is no PostgreSQL ${options.version}`);
  const place = join(directory, `pg${options.version}-${randomBytes(4).toString('hex')}`);
  const server = await createCluster({
    binaries: own,
    directory: place,
    user,
    checksums: options.checksums ?? true,
    settings: { fsync: 'off', shared_buffers: '64MB', max_wal_size: '256MB', ...options.settings },
    env: serverEnvironment(),
    ...(options.walSegmentSizeMb === undefined ? {} : { walSegmentSizeMb: options.walSegmentSizeMb }),
  });
  const clients = new Set<pg.Client>();
  const dispose = server[Symbol.asyncDispose].bind(server);

  const connect = async (database = 'postgres'): Promise<pg.Client> => {
    const client = new pg.Client({ ...server.connection, database });
    // Without a listener a server that is killed would end the test's own process.
    client.on('error', () => undefined);
    await client.connect();
    clients.add(client);
    return client;
  };
  const query: TestCluster['query'] = async (sql, values) => {
    const client = await connect();
    try {
      return (await client.query(sql, values)).rows;
    } finally {
      clients.delete(client);
      await client.end();
    }
  };
  const cluster = Object.assign(server, {
    directory: place,
    connect,
    query,
    [Symbol.asyncDispose]: async () => {
      await Promise.allSettled([...clients].map(client => client.end()));
      await dispose();
      await rm(place, { recursive: true, force: true, maxRetries: 5 });
    },
  });
  try {
    await cluster.start();
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** What a server hands to its archive_command: nothing of this repository's configuration or npm's PATH. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: inject('harness').home,
    LC_ALL: 'C',
    // Nothing is to change in a repository behind a test's back.
    AISHELL_SUMMARIES: 'later',
  };
}

export interface TableFingerprint {
  readonly rows: number;
  /** Sum of the rows' hashes, so that their order does not matter. */
  readonly checksum: string;
}

/** Every logged table of the client's database, by `schema.table`, as the client's transaction sees it. */
export async function tableFingerprints(client: pg.Client): Promise<Record<string, TableFingerprint>> {
  const tables = await client.query<{ name: string; quoted: string }>(`
    select nspname || '.' || relname as name, format('%I.%I', nspname, relname) as quoted
    from pg_class join pg_namespace n on n.oid = relnamespace
    where relkind = 'r' and relpersistence = 'p' and nspname not in ('pg_catalog', 'information_schema')
    order by 1`);
  const prints: Record<string, TableFingerprint> = {};
  for (const { name, quoted } of tables.rows) {
    const { rows } = await client.query<{ rows: string; checksum: string }>(
      `select count(*) as rows, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text as checksum
       from only ${quoted} t`,
    );
    prints[name] = { rows: Number(rows[0]?.rows), checksum: String(rows[0]?.checksum) };
  }
  return prints;
}

/**
 * Checks every B-tree against its table's rows and every table's structure, with amcheck; catalogs included.
 *
 * @throws Error with every finding
 */
export async function checkClean(client: pg.Client): Promise<{ indexes: number; tables: number }> {
  await client.query('create extension if not exists amcheck');
  const findings: string[] = [];
  const indexes = await client.query<{ oid: string; name: string }>(`
    select c.oid, c.oid::regclass::text as name
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
    where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't' and i.indisready and i.indisvalid`);
  for (const { oid, name } of indexes.rows) {
    await client.query('select bt_index_check($1::oid::regclass, true)', [oid]).catch((error: Error) => {
      findings.push(`index ${name}: ${error.message}`);
    });
  }
  const tables = await client.query<{ oid: string; name: string }>(`
    select oid, oid::regclass::text as name from pg_class
    where relkind in ('r', 't', 'm') and relpersistence <> 't'`);
  for (const { oid, name } of tables.rows) {
    const { rows } = await client.query<{ blkno: string; msg: string }>(
      'select blkno, msg from verify_heapam($1::oid::regclass)',
      [oid],
    );
    for (const row of rows) findings.push(`table ${name}, block ${row.blkno}: ${row.msg}`);
  }
  if (findings.length > 0) throw new Error(`amcheck found:\n${findings.join('\n')}`);
  return { indexes: indexes.rows.length, tables: tables.rows.length };
}
