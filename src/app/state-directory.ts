import { isAbsolute, join } from 'node:path';

/**
 * Where this user's programs keep what they find out about this machine; null for a user without a home.
 * @source XDG Base Directory Specification, XDG_STATE_HOME
 */
export function stateDirectory(env: NodeJS.ProcessEnv): string | null {
  const given = env['XDG_STATE_HOME'];
  if (given !== undefined && isAbsolute(given)) return join(given, 'aishell');
  const home = env['HOME'];
  return home !== undefined && isAbsolute(home) ? join(home, '.local', 'state', 'aishell') : null;
}
