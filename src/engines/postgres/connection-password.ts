import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionTarget } from './connection-target.ts';

/**
 * The password from PGPASSWORD, or else from the password file; undefined when neither has one. A password file that
 * others can read is ignored, as PostgreSQL's own programs do.
 *
 * @source PostgreSQL manual, "The Password File"
 */
export async function findPassword(
  target: Pick<ConnectionTarget, 'host' | 'port' | 'user' | 'database'>,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string | undefined> {
  if (env.PGPASSWORD) return env.PGPASSWORD;
  const path = env.PGPASSFILE || join(env.HOME || homedir(), '.pgpass');
  try {
    const facts = await stat(path);
    if (!facts.isFile() || (facts.mode & 0o077) !== 0) return undefined;
    return lookUpPassword(await readFile(path, 'utf8'), target);
  } catch {
    // No such file, or not readable: as if it were empty. The server's refusal then says that a password is missing.
    return undefined;
  }
}

/** The first line of a password file that fits: `host:port:database:user:password`, `*` fits all, `\` escapes. */
export function lookUpPassword(
  file: string,
  target: Pick<ConnectionTarget, 'host' | 'port' | 'user' | 'database'>,
): string | undefined {
  // A connection through a socket is listed as localhost, or under the name of the socket's directory.
  const hosts = target.host.startsWith('/') ? [target.host, 'localhost'] : [target.host];
  for (const line of file.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue;
    const [host, port, database, user, password] = splitLine(line);
    if (password === undefined) continue;
    const fits = (pattern: string | undefined, values: readonly string[]): boolean =>
      pattern === '*' || values.some(value => value === pattern);
    if (
      fits(host, hosts) &&
      fits(port, [String(target.port)]) &&
      fits(database, [target.database]) &&
      fits(user, [target.user])
    ) {
      return password;
    }
  }
  return undefined;
}

function splitLine(line: string): string[] {
  const fields: string[] = [''];
  for (let index = 0; index < line.length; index += 1) {
    const character = line[index]!;
    if (character === '\\' && index + 1 < line.length) {
      index += 1;
      fields[fields.length - 1] += line[index]!;
    } else if (character === ':' && fields.length < 5) {
      fields.push('');
    } else {
      fields[fields.length - 1] += character;
    }
  }
  return fields;
}
