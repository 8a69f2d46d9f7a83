import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { TestCluster } from './postgres.ts';
import { seeded } from './seeded.ts';

/** What the server needs for {@link RandomChanges}. */
export const randomChangesSettings = { max_prepared_transactions: 5, autovacuum: 'off' };

const DATABASES = ['postgres', 'second'] as const;
const ROWS = 4000;

/**
 * Changes a cluster in every way that reaches its files: rows, tables, indexes of all kinds, tablespaces, databases copied
 * both ways, savepoints and prepared transactions. Which, and where, the seed decides.
 */
export class RandomChanges {
  readonly #cluster: TestCluster;
  readonly #random: (below: number) => number;
  readonly #tables = new Map<string, Set<string>>(DATABASES.map(name => [name, new Set<string>()]));
  readonly #copies = new Set<string>();
  #made = 0;

  constructor(cluster: TestCluster, seed: number) {
    this.#cluster = cluster;
    this.#random = seeded(seed);
  }

  /** A database with something in it. */
  async begin(): Promise<void> {
    const place = join(this.#cluster.directory, 'fast');
    await mkdir(place);
    const { user } = this.#cluster;
    if (user !== null) await chown(place, user.uid, user.gid);
    await this.#cluster.query(`create tablespace fast location '${place}'`);
    await this.#cluster.query('create database second');
    for (const database of DATABASES) {
      const client = await this.#cluster.connect(database);
      await client.query('create sequence numbers');
      await client.end();
      await this.#in(database, 'create');
      await this.#in(database, 'create');
    }
  }

  /** Databases that exist now. */
  get databases(): string[] {
    return [...DATABASES, ...this.#copies];
  }

  /** Makes some changes; returns what they were, for whoever has to find out why a test fails. */
  async some(count: number): Promise<string[]> {
    const done: string[] = [];
    for (let n = 0; n < count; n += 1) {
      const kinds = Object.keys(this.#kinds);
      const kind = kinds[this.#random(kinds.length)]!;
      // A database that is copied must have no sessions.
      const database = kind.startsWith('a database')
        ? 'postgres'
        : DATABASES[this.#random(DATABASES.length)]!;
      done.push(`${database}: ${kind}`);
      await this.#in(database, kind);
    }
    return done;
  }

  async #in(database: string, kind: string): Promise<void> {
    const client = await this.#cluster.connect(database);
    try {
      await this.#kinds[kind]!(client, this.#tables.get(database)!);
    } finally {
      await client.end();
    }
  }

  #some(tables: ReadonlySet<string>): string {
    return [...tables][this.#random(tables.size)]!;
  }

  #range(): string {
    const from = this.#random(ROWS);
    return `${from} and ${from + 1 + this.#random(ROWS / 8)}`;
  }

  async #create(client: pg.Client, tables: Set<string>, more = ''): Promise<void> {
    this.#made += 1;
    const name = `t${this.#made}`;
    await client.query(`create table ${name} (id int primary key, label text, at point, words tsvector, big text) ${more};
      insert into ${name} select n, 'label ' || n, point(n, n % 97), to_tsvector('simple', 'w' || n % 50),
        case when n % 500 = 0 then (select string_agg(md5((n + i)::text), '') from generate_series(1, 200) i) end
        from generate_series(1, ${1 + this.#random(ROWS)}) n`);
    const methods = [
      'btree (label)',
      'hash (label)',
      'gist (at)',
      'spgist (at)',
      'spgist (label)',
      'gin (words)',
      'brin (id)',
    ];
    for (let n = 0; n < 3; n += 1)
      await client.query(`create index on ${name} using ${methods[this.#random(methods.length)]!}`);
    tables.add(name);
  }

  readonly #kinds: Readonly<Record<string, (client: pg.Client, tables: Set<string>) => Promise<unknown>>> = {
    create: (client, tables) => this.#create(client, tables),
    'create in a tablespace': (client, tables) => this.#create(client, tables, 'tablespace fast'),
    'insert rows': (client, tables) =>
      client.query(`insert into ${this.#some(tables)} select n, 'more ' || n, point(n, n % 89)
        from generate_series(1, ${ROWS}) n where n between ${this.#range()} on conflict do nothing`),
    'insert with gaps': (client, tables) =>
      client.query(`insert into ${this.#some(tables)} select 1000000 + nextval('numbers'), repeat('x', n % 300)
        from generate_series(1, 300) n on conflict do nothing`),
    update: (client, tables) =>
      client.query(
        `update ${this.#some(tables)} set label = label || '.' where id % 50 = ${this.#random(50)}`,
      ),
    'update a range': (client, tables) =>
      client.query(`update ${this.#some(tables)} set at = point(id, 5) where id between ${this.#range()}`),
    delete: (client, tables) =>
      client.query(`delete from ${this.#some(tables)} where id between ${this.#range()}`),
    vacuum: (client, tables) => client.query(`vacuum ${this.#some(tables)}`),
    'vacuum freeze': (client, tables) => client.query(`vacuum freeze ${this.#some(tables)}`),
    'cut off the end': async (client, tables) => {
      const table = this.#some(tables);
      await client.query(`delete from ${table} where id > ${this.#random(ROWS)}`);
      await client.query(`vacuum ${table}`);
      await client.query(
        `insert into ${table} select nextval('numbers') + 2000000, 'after' from generate_series(1, 50)`,
      );
    },
    'read, which sets hint bits': (client, tables) =>
      client.query(`select count(big) from ${this.#some(tables)}`),
    truncate: (client, tables) => client.query(`truncate ${this.#some(tables)}`),
    drop: async (client, tables) => {
      if (tables.size < 2) return;
      const table = this.#some(tables);
      tables.delete(table);
      await client.query(`drop table ${table}`);
    },
    'vacuum full': (client, tables) => client.query(`vacuum full ${this.#some(tables)}`),
    reindex: (client, tables) => client.query(`reindex table ${this.#some(tables)}`),
    'move to a tablespace': (client, tables) =>
      client.query(
        `alter table ${this.#some(tables)} set tablespace ${this.#random(2) === 0 ? 'fast' : 'pg_default'}`,
      ),
    'unlogged and back': async (client, tables) => {
      const table = this.#some(tables);
      await client.query(`alter table ${table} set unlogged`);
      await client.query(`alter table ${table} set logged`);
    },
    savepoints: (client, tables) => {
      const table = this.#some(tables);
      return client.query(`begin; update ${table} set label = 'kept' where id < 40; savepoint a;
        delete from ${table} where id < 60; create table lost as select * from ${table}; rollback to a; commit`);
    },
    'a prepared transaction': async (client, tables) => {
      const name = `p${++this.#made}`;
      await client.query(`begin; update ${this.#some(tables)} set label = 'prepared' where id < 30;
        prepare transaction '${name}'`);
      await client.query(`${this.#random(2) === 0 ? 'commit' : 'rollback'} prepared '${name}'`);
    },
    'a database copied from its files': () => this.#copyDatabase('file_copy'),
    'a database copied through the log': () => this.#copyDatabase('wal_log'),
    'a database moved': () =>
      this.#withCopy(
        name => `alter database ${name} set tablespace ${this.#random(2) === 0 ? 'fast' : 'pg_default'}`,
      ),
    'a database dropped': async () => {
      await this.#withCopy(name => {
        this.#copies.delete(name);
        return `drop database ${name}`;
      });
    },
    checkpoint: client => client.query('checkpoint'),
    'a new segment of the log': client => client.query('select pg_switch_wal()'),
  };

  async #copyDatabase(strategy: string): Promise<void> {
    if (this.#copies.size > 2) return;
    const name = `copy${++this.#made}`;
    const how = this.#cluster.binaries.version >= 15 ? `strategy ${strategy}` : '';
    // Its template must have no sessions.
    const client = await this.#cluster.connect('template1');
    await client.query(`create database ${name} template second ${how}`);
    await client.end();
    this.#copies.add(name);
  }

  async #withCopy(statement: (name: string) => string): Promise<void> {
    const name = [...this.#copies][this.#random(this.#copies.size)];
    if (name === undefined) return;
    await this.#cluster.query(statement(name)).catch((error: Error) => {
      // A database with tables of its own in a tablespace cannot be moved there.
      if (!error.message.includes('already in tablespace')) throw error;
    });
  }
}
