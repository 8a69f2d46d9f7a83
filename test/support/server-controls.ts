import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestInstance } from './instance.ts';
import type { TestCluster } from './postgres.ts';

/**
 * Everything about a server that stopping its writes could leave behind: who may connect, settings wherever they stand,
 * privileges, subscriptions, and the files that decide how it runs.
 */
export async function dumpControls(cluster: TestCluster): Promise<Record<string, unknown>> {
  const tables = {
    databases:
      'select oid, datname, datallowconn, datconnlimit, datacl::text, datistemplate from pg_database order by 1',
    roleSettings: 'select * from pg_db_role_setting order by 1, 2',
    roles: 'select rolname, rolsuper, rolcanlogin, rolconnlimit, rolconfig from pg_roles order by 1',
    fileSettings:
      "select regexp_replace(sourcefile, '.*/', '') as file, name, setting, applied, error from pg_file_settings order by 1, 2, seqno",
    settings: `select name, setting, source, pending_restart from pg_settings
               where name not in ('application_name', 'client_encoding', 'transaction_read_only', 'in_hot_standby') order by 1`,
    subscriptions: 'select subname, subenabled from pg_subscription order by 1',
    privileges: 'select oid::regclass::text, relacl::text from pg_class where relacl is not null order by 1',
  };
  const dump: Record<string, unknown> = {};
  for (const [name, sql] of Object.entries(tables)) dump[name] = await cluster.query(sql);
  for (const file of ['postgresql.conf', 'pg_hba.conf'])
    dump[file] = await readFile(join(cluster.dataDirectory, file), 'utf8');
  // ALTER SYSTEM puts whatever it changes at the end: the order of the lines is its own, and means nothing.
  const auto = await readFile(join(cluster.dataDirectory, 'postgresql.auto.conf'), 'utf8');
  dump['postgresql.auto.conf'] = auto.split('\n').sort();
  const files = await readdir(cluster.dataDirectory);
  dump['files'] = files.filter(name => !/^(postmaster\.(pid|opts)|log|current_logfiles)$/.test(name)).sort();
  return dump;
}

/** Adds a section `emergency` to the instance's configuration; its records lie beside the data directory. */
export async function configureEmergency(
  instance: TestInstance,
  lines: readonly string[] = [],
): Promise<void> {
  const text = (await readFile(instance.configFile, 'utf8')).replace(/\nemergency:[\s\S]*$/, '\n');
  const section = [
    'emergency:',
    `  state_directory: ${instance.path('state')}`,
    ...lines.map(line => `  ${line}`),
  ];
  await writeFile(instance.configFile, `${text.trimEnd()}\n${section.join('\n')}\n`);
}
