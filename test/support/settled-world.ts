import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { TestCluster } from './postgres.ts';
import { seeded } from './seeded.ts';

/** What the server needs for {@link SettledWorld}. */
export const settledWorldSettings = { max_prepared_transactions: 10, autovacuum: 'off' };

const SCHEMA = `
  create extension amcheck;
  create extension pg_visibility;
  create table orders (id int primary key, n int, label text, note text) with (fillfactor = 80);
  insert into orders select n, n % 900, 'label ' || n % 5000, repeat('o', 120 + n % 40) from generate_series(1, 24000) n;
  create index orders_n on orders using hash (n);
  create index orders_label on orders (label, id);
  create index orders_part on orders (note) where id % 3 = 0;
  create table texts (id int primary key, words tsvector, slow tsvector, numbers int[], note text);
  insert into texts select n, to_tsvector('simple', 'w' || n % 300 || ' x' || n % 11), to_tsvector('simple', 's' || n % 200),
    array[n % 500, n % 7], repeat('t', 90) from generate_series(1, 8000) n;
  create index texts_words on texts using gin (words) with (fastupdate = on);
  create index texts_slow on texts using gin (slow) with (fastupdate = off);
  create index texts_numbers on texts using gin (numbers) with (fastupdate = on, gin_pending_list_limit = 64);
  create table shapes (id int primary key, at point, r int4range, label text, note text) with (fillfactor = 90);
  insert into shapes select n, point(n % 211, n % 97), int4range(n, n + n % 50 + 1), 'shape ' || n, repeat('s', 110)
    from generate_series(1, 10000) n;
  create index shapes_at on shapes using gist (at);
  create index shapes_r on shapes using gist (r);
  create index shapes_label on shapes using spgist (label);
  create table grown (id int, made int, filler text);
  insert into grown select n, n / 10, repeat('g', 150) from generate_series(1, 8000) n;
  create index grown_made on grown using brin (made) with (pages_per_range = 8);
  create index grown_id on grown (id);
  create table bulk (id int, filler text);
  create table places (id int primary key, name text) with (fillfactor = 85);
  create table bodies (id int primary key, body text not null);
  alter table bodies alter column body set storage external;
  insert into bodies select n, (select string_agg(md5((n * 1000 + i)::text), '') from generate_series(1, 150) i)
    from generate_series(1, 500) n;
  create table shrinking (id int, filler text);
  insert into shrinking select n, repeat('h', 400) from generate_series(1, 6000) n;
  create table reused (id int primary key, filler text);
  insert into reused select n, repeat('r', 200) from generate_series(1, 8000) n;
  create table locked (id int primary key, n int not null, filler text) with (fillfactor = 70);
  insert into locked select n, 0, repeat('l', 80) from generate_series(1, 9000) n;
  create table owners (id int primary key, locked int references locked);
  create table steady (id int primary key, n int, note text);
  insert into steady select n, n % 77, repeat('q', 300) from generate_series(1, 12000) n;
  create index steady_n on steady (n);
  create table owned (id int primary key, n int, filler text);
  insert into owned select n, n, repeat('u', 250) from generate_series(1, 6000) n;
  create table emptied (id int primary key, filler text);
  create table rewritten (id int primary key, filler text);
  insert into rewritten select n, repeat('w', 150) from generate_series(1, 2000) n;
  create sequence tickets;
  create sequence often cache 5;
  create unlogged table scratch as select n id from generate_series(1, 1000) n;`;

/** How much of the large tables a round of changes reaches. */
export type Reach = 'all over' | 'here and there';

/** A transaction that others do not wait for. */
export interface OpenChanges {
  end(): Promise<void>;
}

/**
 * A database whose tables are large against what is changed around a target, so that a rewind leaves most pages as they are:
 * every kind of index, and every kind of change. Which rows, and in what order, the seed decides.
 */
export class SettledWorld {
  readonly #cluster: TestCluster;
  readonly #random: (below: number) => number;
  /** For ids and names that are new. */
  #made = 100_000;
  #opened = 0;

  constructor(cluster: TestCluster, seed: number) {
    this.#cluster = cluster;
    this.#random = seeded(seed);
  }

  /** What is there before the backup. */
  async make(): Promise<void> {
    const place = join(this.#cluster.directory, 'other disk');
    await mkdir(place);
    if (this.#cluster.user !== null) await chown(place, this.#cluster.user.uid, this.#cluster.user.gid);
    await this.#cluster.query(`create tablespace other location '${place}'`);
    await this.#cluster.query('create database pattern');
    await this.#in('pattern', [
      `create table notes (id int primary key, note text);
       insert into notes select n, repeat('p', 150) from generate_series(1, 3000) n`,
    ]);
    await this.#run([
      SCHEMA,
      'alter table places set tablespace other',
      `insert into places select n, repeat('p', 100) || n from generate_series(1, 8000) n`,
      'vacuum (freeze, analyze) steady',
      'vacuum (analyze) orders',
    ]);
  }

  /** Changes, checkpoints between them. */
  async change(rounds: number, reach: Reach): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      const steps = this.#shuffled([
        () => this.#rows(reach),
        () => this.#rows(reach),
        () => this.#indexed(reach),
        () => this.#grow(),
        () => this.#lock(reach),
        () => this.#shrink(),
        () => this.#whole(reach),
        () => this.#transactions(reach),
        () => this.#read(),
        () => this.#vacuum(reach),
      ]);
      for (const [index, step] of steps.entries()) {
        await step();
        if (reach === 'all over' && index % 4 === this.#random(4)) await this.checkpoint();
      }
      await this.#read();
    }
  }

  async checkpoint(): Promise<void> {
    await this.#run(['checkpoint', ...(this.#random(2) === 0 ? ['select pg_switch_wal()'] : [])]);
  }

  /** Databases made in both ways. */
  async changeDatabases(): Promise<void> {
    const strategies =
      this.#cluster.binaries.version >= 15 ? [' strategy wal_log', ' strategy file_copy'] : [''];
    for (const strategy of strategies) {
      const name = `copy_${this.#next(1)}`;
      await this.#in('pattern', [`update notes set note = note || 'x' where id % 40 = ${this.#random(40)}`]);
      await this.#cluster.query(`create database ${name} template pattern${strategy}`);
      await this.#in(name, [`delete from notes where id % 3 = 0`]);
      if (this.#random(3) === 0) await this.#cluster.query(`drop database ${name}`);
    }
  }

  /** Transactions that have changed pages here and there and go on: commits, a rollback, a prepared one; no one waits for them. */
  async open(): Promise<OpenChanges> {
    const clients: pg.Client[] = [];
    for (let n = 0; n < 3; n += 1) {
      const client = await this.#cluster.connect();
      clients.push(client);
      const id = this.#next(1000);
      await client.query(`begin; insert into steady select ${id} + i, 1, 'open' from generate_series(1, 60) i;
        update owned set n = n + 1 where id % 97 = ${this.#ownRows()}; savepoint s;
        update owned set filler = 'open' || filler where id % 97 = ${this.#ownRows()}; ${n === 1 ? 'rollback to s;' : ''}
        insert into grown select ${id} + i, i, 'open' from generate_series(1, 100) i;
        insert into orders select ${id} + i, i, 'open', 'open' from generate_series(1, 40) i;
        create table open_${id} as select generate_series(1, 300) id`);
    }
    const prepared = `across_${this.#next(1)}`;
    await this.#run([
      `begin; delete from owned where id % 97 = ${this.#ownRows()}; prepare transaction '${prepared}'`,
    ]);
    return {
      end: async () => {
        for (const [n, client] of clients.entries()) {
          await client.query(n === 2 ? 'rollback' : 'commit');
          await client.end();
        }
        await this.#run([`${this.#random(2) === 0 ? 'commit' : 'rollback'} prepared '${prepared}'`]);
      },
    };
  }

  /** Reads everything, through tables and through indexes: hints are set, and dead index entries are marked. */
  async readAll(): Promise<void> {
    const tables = [
      'orders',
      'texts',
      'shapes',
      'grown',
      'bulk',
      'places',
      'bodies',
      'reused',
      'locked',
      'steady',
      'owned',
    ];
    await this.#run(tables.map(name => `select count(*) from ${name}`));
    await this.#run([
      'set enable_seqscan = off; set enable_bitmapscan = off',
      ...['orders', 'texts', 'shapes', 'places', 'reused', 'locked', 'steady'].map(
        name => `select sum(length(t::text)) from (select * from ${name} order by id) t`,
      ),
      'select sum(length(note)) from (select * from orders order by label, id) t',
      'select count(*) from orders where n = 17',
      `select count(*) from shapes where at <@ box '((0,0),(300,300))'`,
      `select count(*) from shapes where r && int4range(0, 100000)`,
      'select sum(length(filler)) from (select * from grown order by id) t',
    ]);
  }

  async #rows(reach: Reach): Promise<void> {
    const [every, at] = this.#some(reach);
    const id = this.#next(1000);
    await this.#run(
      this.#shuffled([
        `update orders set n = n + 1 where id % ${every} = ${at}`,
        `update orders set note = 'hot' || note where id % ${every} = ${(at + 1) % every} and length(note) < 300`,
        `update orders set label = 'new ' || label where id % ${every * 2} = ${at}`,
        `delete from orders where id % ${every * 3} = ${at}`,
        `insert into orders select ${id} + n, n, 'label ' || n, repeat('i', 140) from generate_series(1, ${this.#few(400)}) n`,
        `update steady set n = n + 1 where id % ${every * 4} = ${at}`,
        `update places set name = 'p' || name where id % ${every} = ${at}`,
        `insert into places select ${id} + n, repeat('n', 90) from generate_series(1, ${this.#few(200)}) n`,
        `select nextval('tickets') from generate_series(1, ${this.#few(50)})`,
        `select nextval('often') from generate_series(1, ${this.#few(20)})`,
      ]),
    );
  }

  async #indexed(reach: Reach): Promise<void> {
    const [every, at] = this.#some(reach);
    const id = this.#next(1000);
    await this.#run(
      this.#shuffled([
        `update texts set words = to_tsvector('simple', 'u' || id % ${at + 2}) where id % ${every} = ${at}`,
        `update texts set numbers = numbers || ${at}, slow = to_tsvector('simple', 'z' || id) where id % ${every * 2} = ${at}`,
        `delete from texts where id % ${every * 3} = ${at}`,
        `insert into texts select ${id} + n, to_tsvector('simple', 'w' || n), to_tsvector('simple', 's' || n), array[n], 'new'
           from generate_series(1, ${this.#few(300)}) n`,
        `update shapes set at = point(${at}, id % 311) where id % ${every} = ${at}`,
        `update shapes set r = int4range(id, id + ${at + 3}), label = 'l' || label where id % ${every * 2} = ${at}`,
        `delete from shapes where id % ${every * 3} = ${at}`,
        `insert into shapes select ${id} + n, point(n, ${at}), int4range(n, n + 9), 'new ' || n, 'i'
           from generate_series(1, ${this.#few(300)}) n`,
        `update bodies set body = reverse(body) where id % ${every} = ${at}`,
        `insert into bodies select ${id} + n, (select string_agg(md5((n * ${id} + i)::text), '') from generate_series(1, 100) i)
           from generate_series(1, ${this.#few(12)}) n`,
      ]),
    );
    if (this.#random(3) === 0) await this.#run([`select gin_clean_pending_list('texts_words')`]);
  }

  /** Tables that grow: row by row, and by more pages at once than are used. */
  async #grow(): Promise<void> {
    const id = this.#next(1000);
    await this.#run([
      `insert into grown select ${id} + n, n, repeat('g', 160) from generate_series(1, ${this.#few(1200)}) n`,
      `copy bulk from program 'yes "${id}\tmore of the same, and more" | head -n ${500 + this.#random(4000)}'`,
      ...(this.#random(2) === 0 ? [`select brin_summarize_new_values('grown_made')`] : []),
      ...(this.#random(3) === 0 ? [`delete from bulk where ctid < '(${this.#random(10)},1)'`] : []),
    ]);
  }

  /** Rows that two sessions have locked: multixacts, of lockers and of one that updates. */
  async #lock(reach: Reach): Promise<void> {
    const [every, at] = this.#some(reach);
    const [one, other] = [await this.#cluster.connect(), await this.#cluster.connect()];
    const rows = `from locked where id % ${every * 2} = ${at}`;
    const id = this.#next(1000);
    await one.query(`begin; select count(*) from (select 1 ${rows} for key share) t`);
    await other.query(`begin; select count(*) from (select 1 ${rows} for ${this.#random(2) === 0 ? 'share' : 'key share'}) t;
      savepoint s; select count(*) from (select 1 from locked where id % ${every * 3} = ${(at + 1) % every} for update) t;
      ${this.#random(2) === 0 ? 'rollback to s' : 'release s'}`);
    await one.query(this.#random(2) === 0 ? 'commit' : 'rollback');
    await other.query(`update locked set n = n + 1 where id % ${every * 4} = ${at};
      insert into owners select ${id} + id, id from locked where id % ${every * 3} = ${at} on conflict do nothing`);
    await other.query(this.#random(3) === 0 ? 'rollback' : 'commit');
    await Promise.all([one.end(), other.end()]);
  }

  /** Pages that are emptied, cut off or used again. */
  async #shrink(): Promise<void> {
    const id = this.#next(1000);
    const [from, length] = [this.#random(7000), 300 + this.#random(900)];
    await this.#run([
      `delete from reused where id between ${from} and ${from + length}`,
      ...(this.#random(2) === 0 ? ['vacuum reused'] : []),
      `insert into reused select ${id} + n, repeat('a', 180) from generate_series(1, ${this.#few(600)}) n`,
      `delete from shrinking where id > ${1000 + this.#random(5000)}`,
      ...(this.#random(2) === 0 ? ['vacuum shrinking'] : []),
      `insert into shrinking select n, repeat('j', 300) from generate_series(1, ${this.#few(300)}) n`,
    ]);
  }

  /** Relations that come, go and are written anew. */
  async #whole(reach: Reach): Promise<void> {
    const name = `made_${this.#next(1)}`;
    await this.#run([
      `create table ${name} (id int primary key, t text); insert into ${name} select n, repeat('z', 80) from generate_series(1, 500) n`,
      ...[
        [`drop table ${name}`],
        [`truncate ${name}`, `insert into ${name} values (1, 'again')`],
        [`alter table ${name} alter column t type varchar(200)`],
        [`alter table ${name} set tablespace other`],
      ][this.#random(4)]!,
      'truncate emptied',
      `insert into emptied select n, 'again' from generate_series(1, ${this.#few(500)}) n`,
      ...(this.#random(2) === 0
        ? ['vacuum full rewritten']
        : ['update rewritten set filler = filler where id % 9 = 1']),
      ...(reach === 'all over' && this.#random(3) === 0 ? ['reindex index orders_label'] : []),
    ]);
  }

  async #transactions(reach: Reach): Promise<void> {
    const [every, at] = this.#some(reach);
    const id = this.#next(1000);
    await this.#run([
      `begin; insert into steady select ${id} + n, n, 'gone' from generate_series(1, 200) n; update orders set n = 0 where id % ${every} = ${at}; rollback`,
      `begin; savepoint a; update steady set note = 'a' || note where id % ${every * 5} = ${at}; rollback to a;
         savepoint b; update steady set n = 5 where id % ${every * 5} = ${at}; release b; commit`,
      `begin; insert into steady select ${id} + 300 + n, n, 'prepared' from generate_series(1, 50) n; prepare transaction 'p${id}'`,
      `${this.#random(2) === 0 ? 'commit' : 'rollback'} prepared 'p${id}'`,
      `do $$ begin for i in 1..20 loop begin insert into steady values (${id} + 400 + i, i, 'sub');
         if i % 3 = 0 then raise exception 'no'; end if; exception when raise_exception then null; end; end loop; end $$`,
    ]);
  }

  async #read(): Promise<void> {
    await this.#run([
      'select count(*) from orders',
      'select count(*) from shapes',
      'set enable_seqscan = off; select sum(length(note)) from (select * from orders order by id) t',
    ]);
  }

  async #vacuum(reach: Reach): Promise<void> {
    const large = ['orders', 'texts', 'shapes', 'grown', 'places', 'bodies', 'locked', 'steady', 'owned'];
    const small = ['reused', 'bulk', 'owners', 'emptied', 'shrinking'];
    const of = reach === 'all over' ? [...large, ...small] : [...small, large[this.#random(large.length)]!];
    const kinds = [
      '',
      '(freeze)',
      '(index_cleanup off)',
      '(index_cleanup on)',
      '(truncate false)',
      '(disable_page_skipping)',
    ];
    for (const name of this.#shuffled(of).slice(0, reach === 'all over' ? 6 : 2))
      await this.#run([`vacuum ${kinds[this.#random(kinds.length)]!} ${name}`]);
  }

  #next(count: number): number {
    this.#made += count;
    return this.#made;
  }

  #ownRows(): number {
    this.#opened = (this.#opened + 1) % 97;
    return this.#opened;
  }

  /** `id % every = at`: a part of the rows. */
  #some(reach: Reach): readonly [every: number, at: number] {
    const every = reach === 'all over' ? 5 + this.#random(40) : 900 + this.#random(2000);
    return [every, this.#random(every)];
  }

  #few(most: number): number {
    return 1 + this.#random(most);
  }

  #shuffled<T>(items: readonly T[]): T[] {
    const left = [...items];
    return items.map(() => left.splice(this.#random(left.length), 1)[0]!);
  }

  async #run(statements: readonly string[]): Promise<void> {
    await this.#in('postgres', statements);
  }

  async #in(database: string, statements: readonly string[]): Promise<void> {
    const client = await this.#cluster.connect(database);
    for (const statement of statements) await client.query(statement);
    await client.end();
  }
}

/** What each index gives, against what its table says. @throws Error with every difference */
export async function checkIndexes(client: pg.Client): Promise<void> {
  const findings: string[] = [];
  const count = async (query: string, how: string): Promise<string> => {
    await client.query(how);
    const { rows } = await client.query<{ found: string }>(query);
    await client.query('reset all');
    return rows[0]!.found;
  };
  for (const query of LOOKUPS) {
    const truth = await count(
      query,
      'set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off',
    );
    for (const how of [
      'set enable_seqscan = off; set enable_bitmapscan = off',
      'set enable_seqscan = off; set enable_indexscan = off; set enable_indexonlyscan = off',
    ]) {
      const found = await count(query, how);
      if (found !== truth) findings.push(`${query}: ${found} by an index, ${truth} in the table`);
    }
  }
  if (findings.length > 0) throw new Error(findings.join('\n'));
}

const LOOKUPS = [
  ...['orders', 'texts', 'shapes', 'grown', 'places', 'bodies', 'reused', 'locked', 'steady', 'owned'].map(
    name => `select count(id) || ' ' || sum(hashint4(id)) as found from ${name} where id > 0`,
  ),
  `select count(*) || ' ' || sum(hashtext(label)) as found from orders where label > ''`,
  ...[3, 17, 450, 899].map(n => `select count(*) || ' ' || sum(id) as found from orders where n = ${n}`),
  ...['w7', 'x3', 'u1', 'u4'].map(
    word => `select count(*) || ' ' || sum(id) as found from texts where words @@ '${word}'::tsquery`,
  ),
  ...['s5', 's150', 'z44'].map(
    word => `select count(*) || ' ' || sum(id) as found from texts where slow @@ '${word}'::tsquery`,
  ),
  ...[3, 7, 300].map(
    n => `select count(*) || ' ' || sum(id) as found from texts where numbers @> array[${n}]`,
  ),
  `select count(*) || ' ' || sum(id) as found from shapes where at <@ box '((10,10),(70,90))'`,
  `select count(*) || ' ' || sum(id) as found from shapes where r && int4range(500, 3000)`,
  `select count(*) || ' ' || sum(id) as found from shapes where label >= 'l' and label < 'z'`,
  `select count(*) || ' ' || sum(id) as found from grown where made between 100 and 300`,
];

/** What the visibility maps say, against the rows of the pages. @throws Error with every difference */
export async function checkVisibility(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string; found: string }>(`
    select oid::regclass::text as name, kind || ' ' || tid::text as found from pg_class,
      lateral (select 'visible', t from pg_check_visible(oid) t union all select 'frozen', t from pg_check_frozen(oid) t) c(kind, tid)
    where relkind in ('r', 't', 'm') and relpersistence = 'p'`);
  if (rows.length > 0)
    throw new Error(
      rows
        .map(({ name, found }) => `${name} is not ${found}`)
        .slice(0, 50)
        .join('\n'),
    );
}
