import { readFile } from 'node:fs/promises';
import type { StatementReport } from '../../src/operations/sql/statement-report.ts';
import { type CliOptions, type CliResult, runCli } from './cli.ts';
import type { TestInstance } from './instance.ts';
import type { TestCluster } from './postgres.ts';

/** Users with orders that a foreign key takes along, notes that it empties a column of, and an audit by trigger. */
export const shopTables = `
  create table users (id int primary key, name text not null, balance numeric(20, 4));
  create table orders (id bigint generated always as identity primary key,
                       user_id int references users on delete cascade, amount numeric);
  create index on orders (user_id);
  create table notes (id int primary key, user_id int references users on delete set null);
  create index on notes (user_id);
  create table audit (at timestamptz default now(), what text);
  create function note_delete() returns trigger language plpgsql as
    $$ begin insert into audit (what) values ('delete ' || old.id); return old; end $$;
  create trigger note_delete after delete on users for each row execute function note_delete();
  insert into users select i, 'user ' || i, i * 1.5 from generate_series(1, 3000) i;
  insert into orders (user_id, amount) select 1 + i % 3000, i from generate_series(0, 5999) i;
  insert into notes select i, i from generate_series(1, 100) i;
  analyze;`;

/** The rows of every table of the shop. */
export async function shopCounts(cluster: TestCluster): Promise<Record<string, number>> {
  const [row] = await cluster.query<Record<string, number>>(
    `select (select count(*)::int from users) as users, (select count(*)::int from orders) as orders,
            (select count(*)::int from notes where user_id is not null) as notes,
            (select count(*)::int from audit) as audit`,
  );
  return row!;
}

/** `aishell sql` as a script runs it, with its own history beside the data directory. */
export async function sql(
  instance: TestInstance,
  args: readonly string[],
  options: CliOptions & { readonly json?: boolean } = {},
): Promise<CliResult> {
  const { json = false, ...cli } = options;
  return await runCli(['sql', ...args, '--config', instance.configFile, ...(json ? ['--json'] : [])], {
    ...cli,
    env: { XDG_STATE_HOME: instance.path('state'), ...cli.env },
  });
}

/** What `--json` says of each statement. */
export function reportsOf({ json }: CliResult): readonly StatementReport[] {
  return json.filter(line => line['topic'] === 'statement').map(line => line['facts'] as StatementReport);
}

/** The rows that `--json` gives, of all statements. */
export function rowsOf({ json }: CliResult): readonly unknown[] {
  return json.filter(({ type }) => type === 'row').map(line => line['row']);
}

/** Rows changed by table, of what one statement did. */
export function changesOf({ tables }: StatementReport): Record<string, readonly number[]> {
  return Object.fromEntries(
    tables.map(({ table, inserted, updated, deleted }) => [table, [inserted, updated, deleted]]),
  );
}

/** Everything that is kept of what was run. */
export async function keptFiles(instance: TestInstance): Promise<string> {
  const read = (name: string): Promise<string> =>
    readFile(instance.path(`state/aishell/sql/${name}`), 'utf8').catch(() => '');
  return `${await read('statements.jsonl')}${await read('input.jsonl')}`;
}
