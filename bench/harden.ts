import { join } from 'node:path';
import type pg from 'pg';
import {
  ALLOW_MASS_WRITE,
  createFunctionSql,
  createSchemaSql,
  createTriggerSql,
  massWriteTriggers,
} from '../src/engines/postgres/guard-objects.ts';
import { median } from './measure.ts';
import { machineLine } from './report.ts';
import { createDataDirectory, startServer } from './server.ts';
import type { Setting } from './stage.ts';

const ROWS = 500_000;
const LIMIT = 1000;
const TABLES = ['plain', 'guarded'] as const;
type Table = (typeof TABLES)[number];

interface Case {
  readonly name: string;
  /** Parts of a round in which the tables take turns, so that what slows the machine down meets both. */
  readonly slices: number;
  /** In one slice. */
  readonly statements: number;
  run(client: pg.Client, table: Table, slice: number): Promise<void>;
}

const each = async (count: number, work: (index: number) => Promise<unknown>): Promise<void> => {
  for (let index = 0; index < count; index += 1) await work(index);
};

const meant = async (client: pg.Client, sql: string, end: 'commit' | 'rollback'): Promise<void> =>
  void (await client.query(`begin; set local ${ALLOW_MASS_WRITE} = on; ${sql}; ${end}`));

const cases: readonly Case[] = [
  {
    ...{ name: 'UPDATE of one row, in a loop on the server', slices: 10, statements: 5000 },
    run: async (client, table, slice) =>
      void (await client.query(
        `do $$ begin for i in 1..5000 loop update ${table} set v = v + 1 where id = i * 97 + ${slice}; end loop; end $$`,
      )),
  },
  {
    ...{ name: 'UPDATE of one row, from a client, a transaction each', slices: 20, statements: 250 },
    run: (client, table, slice) =>
      each(250, index =>
        client.query({
          ...{ name: `one-${table}`, text: `update ${table} set v = v + 1 where id = $1` },
          values: [1 + index * 1999 + slice],
        }),
      ),
  },
  {
    ...{ name: 'UPDATE of 1,000 rows', slices: 10, statements: 10 },
    run: (client, table, slice) =>
      each(10, index => {
        const from = (slice * 10 + index) * LIMIT;
        return client.query(`update ${table} set v = v + 1 where id > ${from} and id <= ${from + LIMIT}`);
      }),
  },
  {
    ...{ name: 'UPDATE of 500,000 rows, meant', slices: 1, statements: 1 },
    run: (client, table) => meant(client, `update ${table} set v = v + 1`, 'commit'),
  },
  {
    ...{ name: 'DELETE of 500,000 rows, meant, rolled back', slices: 1, statements: 1 },
    run: (client, table) => meant(client, `delete from ${table}`, 'rollback'),
  },
];

/** The same writes on two tables that are equal but for the triggers of `security harden`, in turns. */
export async function benchHarden(setting: Setting): Promise<void> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'data') };
  await createDataDirectory(place);
  const server = await startServer(place, {
    autovacuum: 'off',
    max_wal_size: '4GB',
    checkpoint_timeout: '1h',
  });
  try {
    const client = await server.connect();
    await prepare(client);
    const times = new Map(cases.map(({ name }) => [name, [] as Round[]]));
    for (let round = 0; round < Math.max(setting.rounds, 3); round += 1) {
      for (const one of cases) times.get(one.name)?.push(await runCase(client, one, round));
      setting.say(`round ${round + 1} done`);
    }
    await client.end();
    console.log(reportOf(times).join('\n'));
  } finally {
    await server[Symbol.asyncDispose]();
  }
}

/** Milliseconds of all its slices. */
type Round = Readonly<Record<Table, number>>;

async function runCase(client: pg.Client, one: Case, round: number): Promise<Round> {
  const spent = { plain: 0, guarded: 0 };
  for (let slice = 0; slice < one.slices; slice += 1) {
    // Who goes first has the colder caches: each does in turn.
    for (const table of (round + slice) % 2 === 0 ? TABLES : TABLES.toReversed()) {
      const startedAt = performance.now();
      await one.run(client, table, slice);
      spent[table] += performance.now() - startedAt;
    }
  }
  for (const table of TABLES) await client.query(`vacuum ${table}`);
  return spent;
}

async function prepare(client: pg.Client): Promise<void> {
  await client.query(createSchemaSql);
  for (const guard of new Set(massWriteTriggers.map(trigger => trigger.function)))
    await client.query(createFunctionSql(guard));
  for (const table of TABLES) {
    await client.query(
      `create table ${table} (id int primary key, v int not null, filler text not null);
       insert into ${table} select i, 0, repeat('x', 80) from generate_series(1, ${ROWS}) i`,
    );
  }
  for (const trigger of massWriteTriggers) await client.query(createTriggerSql(trigger, 'guarded', LIMIT));
  await client.query('vacuum analyze');
  await client.query('checkpoint');
}

function reportOf(times: ReadonlyMap<string, readonly Round[]>): string[] {
  const lines = cases.map(({ name, slices, statements }) => {
    const rounds = times.get(name) ?? [];
    const each = (table: Table): string => {
      const ms = median(rounds.map(round => round[table])) / (slices * statements);
      return ms < 1 ? `${(ms * 1000).toFixed(1)} µs` : `${ms.toFixed(1)} ms`;
    };
    // Of one round, so that what slows both down counts for both.
    const ratio = median(rounds.map(({ plain, guarded }) => guarded / plain));
    return `| ${name} | ${each('plain')} | ${each('guarded')} | ${ratio.toFixed(2)} |`;
  });
  return [
    `Tables of ${ROWS.toLocaleString('en-US')} rows; medians of a statement, and of the ratios of each round. ${machineLine()}`,
    '',
    '| | plain | protected | ratio |',
    '| --- | --- | --- | --- |',
    ...lines,
  ];
}
