import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HardenReport } from '../../src/operations/harden/harden.ts';
import type { MeasureName, MeasureState } from '../../src/operations/harden/measure.ts';
import type { Hardening } from '../../src/operations/harden/read-hardening.ts';
import { type CliOptions, type CliResult, type RunningCli, runCli, startCli } from './cli.ts';
import { reportOf } from './emergency.ts';
import type { TestCluster } from './postgres.ts';

/** A database that `aishell security` is asked about. */
export interface Hardened {
  readonly database: string;
  start(args: readonly string[], options?: CliOptions): RunningCli;
  run(...args: string[]): Promise<CliResult>;
  /** `harden --apply-recommendations --yes`; problems are no failure. */
  apply(...args: string[]): Promise<HardenReport>;
  revert(...args: string[]): Promise<HardenReport>;
  plan(...args: string[]): Promise<HardenReport>;
  status(): Promise<Hardening>;
  /** The state of each measure. */
  states(): Promise<Record<MeasureName, MeasureState>>;
}

let configs = 0;

/** The commands for one database; what they need of a configuration is written for them. */
export async function hardenedDatabase(
  cluster: TestCluster,
  database: string,
  user = cluster.connection.user,
): Promise<Hardened> {
  const { host, port } = cluster.connection;
  configs += 1;
  const file = `${cluster.directory}/harden-${configs}.yaml`;
  await writeFile(
    file,
    `version: 1
instances: { shop: { engine: postgresql, connection: 'postgresql://${user}@${host}:${port}/${encodeURIComponent(database)}' } }
repository: { storage: ${cluster.directory}/repository, key: { file: ${cluster.directory}/key } }
`,
    { mode: 0o644 },
  );
  const security = (...args: string[]): string[] => ['security', ...args, '--config', file];
  const json = async (...args: string[]): Promise<CliResult> => await runCli(security(...args, '--json'));
  const status = async (): Promise<Hardening> => reportOf(await json('status'));
  return {
    database,
    start: (args, options) => startCli(security(...args), options),
    run: (...args) => runCli(security(...args)),
    apply: async (...args) => reportOf(await json('harden', '--apply-recommendations', '--yes', ...args)),
    revert: async (...args) => reportOf(await json('harden', '--revert', '--yes', ...args)),
    plan: async (...args) => reportOf(await json('harden', ...args)),
    status,
    states: async () =>
      Object.fromEntries((await status()).measures.map(({ name, state }) => [name, state])) as Record<
        MeasureName,
        MeasureState
      >,
  };
}

/** Everything that hardening could leave behind in a database and its server, by names. */
export async function dumpProtection(
  cluster: TestCluster,
  database: string,
): Promise<Record<string, unknown>> {
  const notSystem = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
  const tables = {
    triggers: `select tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1, 2`,
    eventTriggers:
      'select evtname, evtevent, evtenabled, evtfoid::regproc::text from pg_event_trigger order by 1',
    functions: `select n.nspname, proname, prosrc, proconfig, proacl::text from pg_proc p join pg_namespace n on n.oid = pronamespace where ${notSystem} order by 1, 2`,
    schemas: `select nspname, nspacl::text, regexp_replace(obj_description(oid, 'pg_namespace'), '"since": "[0-9-]+T[0-9:.]+Z"', '', 'g') as comment from pg_namespace n where ${notSystem} order by 1`,
    relations: `select n.nspname, relname, relkind, relacl::text from pg_class c join pg_namespace n on n.oid = relnamespace where ${notSystem} order by 1, 2`,
    roleSettings: `select coalesce(d.datname, ''), coalesce(r.rolname, ''), setconfig from pg_db_role_setting s
                   left join pg_database d on d.oid = setdatabase left join pg_roles r on r.oid = setrole order by 1, 2`,
    roles: 'select rolname, rolsuper, rolcanlogin, rolcreaterole, rolinherit from pg_roles order by 1',
    members:
      'select roleid::regrole::text, member::regrole::text, admin_option from pg_auth_members order by 1, 2',
    comments: 'select classoid::regclass::text, description from pg_shdescription order by 1, 2',
    auto: "select name, setting from pg_file_settings where sourcefile ~ 'auto.conf$' order by 1",
    settings: `select name, reset_val from pg_settings where name ~ '^log_' order by 1`,
  };
  const client = await cluster.connect(database);
  const dump: Record<string, unknown> = {};
  for (const [name, sql] of Object.entries(tables)) dump[name] = (await client.query(sql)).rows;
  await client.end();
  return dump;
}

/** Waits for what a reload changes a moment later, then compares. */
export async function untilEqual(read: () => Promise<unknown>, wanted: unknown): Promise<unknown> {
  let found = await read();
  for (let tries = 0; tries < 200 && JSON.stringify(found) !== JSON.stringify(wanted); tries += 1) {
    await sleep(100);
    found = await read();
  }
  return found;
}

/** Waits until a run of `security harden` waits for a lock. */
export async function untilWaiting(cluster: TestCluster): Promise<void> {
  for (let tries = 0; tries < 300; tries += 1) {
    const waiting = await cluster.query(
      "select from pg_stat_activity where application_name = 'aishell harden' and wait_event_type = 'Lock'",
    );
    if (waiting.length > 0) return;
    await sleep(50);
  }
  throw new Error('nothing waits for a lock after 15 s');
}

/** The statements of a script in its order, as psql takes it apart. */
export function splitScript(script: string): string[] {
  const statements: string[] = [];
  let statement = '';
  let quoted = false;
  for (const line of script.split('\n')) {
    if (!quoted && (line.startsWith('--') || line === '')) continue;
    statement += `${line}\n`;
    if ((line.match(/\$guard\$/g) ?? []).length % 2 === 1) quoted = !quoted;
    if (quoted || !line.endsWith(';')) continue;
    statements.push(statement);
    statement = '';
  }
  return statement === '' ? statements : [...statements, statement];
}
