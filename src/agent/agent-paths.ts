import { userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { AppError } from '../base/errors.ts';

/** Where the agent of one instance keeps what it has. */
export interface AgentPaths {
  readonly directory: string;
  /** The process that has it. */
  readonly lock: string;
  /** Where it can be asked. */
  readonly socket: string;
  /** What it must remember beside the log itself. */
  readonly gaps: string;
  readonly synchronous: string;
  /** Copies of incidents that the repository does not have yet, or for which something is held. */
  readonly incidents: string;
  /** The log of one database system, until it is archived. */
  spool(systemIdentifier: string): string;
}

/** @param spool the configured directory; null: below the state directory of the user. @throws CONFIG when there is none */
export function agentPaths(spool: string | null, instance: string, env: NodeJS.ProcessEnv): AgentPaths {
  const directory = join(spool ?? defaultSpool(env), instance);
  return {
    directory,
    lock: join(directory, 'lock'),
    socket: join(directory, 'agent.sock'),
    gaps: join(directory, 'gaps.json'),
    synchronous: join(directory, 'synchronous.json'),
    incidents: join(directory, 'incidents'),
    spool: systemIdentifier => join(directory, systemIdentifier),
  };
}

/** @source XDG Base Directory Specification, XDG_STATE_HOME */
function defaultSpool(env: NodeJS.ProcessEnv): string {
  const given = env['XDG_STATE_HOME'];
  if (given !== undefined && isAbsolute(given)) return join(given, 'aishell', 'spool');
  const home = env['HOME'] ?? homeOfUser();
  if (home !== null && isAbsolute(home)) return join(home, '.local', 'state', 'aishell', 'spool');
  throw new AppError(
    'CONFIG',
    'unable to choose a directory for the spool: this user has no home directory',
    {
      hint: 'Set `agent.spool` in aishell.yaml to a directory of its own on a local disk.',
    },
  );
}

function homeOfUser(): string | null {
  try {
    return userInfo().homedir;
  } catch {
    // An account that is in no list of users has no home.
    return null;
  }
}
