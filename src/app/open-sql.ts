import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import { selectInstance } from '../config/to-config.ts';
import { loadSqlParser } from '../engines/postgres/sql/sql-parser.ts';
import type { SqlContext } from '../operations/sql/sql-context.ts';
import { checkInstanceName } from '../repository/layout.ts';
import { connectionOf } from './open-instance.ts';
import { stateDirectory } from './state-directory.ts';

/** Builds what the console works with; no repository is needed. @throws USAGE INSTANCE_NOT_FOUND */
export async function openSql(
  config: Config,
  { env, instance: name }: { readonly env: NodeJS.ProcessEnv; readonly instance?: string | undefined },
): Promise<SqlContext> {
  const instance = selectInstance(config, name);
  return {
    instance: checkInstanceName(instance.name),
    connection: connectionOf(instance, env),
    parser: await loadSqlParser(),
    historyDirectory: sqlStateDirectory(env),
    user: userName(env),
  };
}

/** Where the console keeps its history; null for a user without a home. */
export function sqlStateDirectory(env: NodeJS.ProcessEnv): string | null {
  const directory = stateDirectory(env);
  return directory === null ? null : join(directory, 'sql');
}

function userName(env: NodeJS.ProcessEnv): string {
  try {
    return userInfo().username;
  } catch {
    // An account that is in no list of users has no name.
    return env['USER'] ?? String(process.getuid?.() ?? '');
  }
}
