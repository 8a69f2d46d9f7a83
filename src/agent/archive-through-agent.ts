import { existsSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { classifyLogFileName } from '../engines/postgres/lsn.ts';
import { refuseCopy } from '../operations/log/archive-segment.ts';
import { askAgent } from './agent-client.ts';
import { type AgentPaths, agentPaths } from './agent-paths.ts';

/**
 * Hands a segment of archive_command over to the agent, where one runs: true when it is durable in the repository, with the
 * very bytes of the file. False: do it yourself; whatever is wrong is found out there, and has its words there.
 *
 * @throws COPY_REFUSED
 */
export async function archiveThroughAgent(
  agent: { readonly spool: string | null; readonly instance: string; readonly env: NodeJS.ProcessEnv },
  path: string,
): Promise<boolean> {
  const file = resolve(path);
  const name = basename(file);
  if (classifyLogFileName(name)?.kind !== 'segment') return false;
  const paths = pathsOf(agent);
  if (paths === null || !existsSync(paths.socket)) return false;
  await refuseCopy(dirname(dirname(file)));
  const reply = await askAgent(paths.socket, { op: 'archive', name, path: file });
  return reply !== null && 'archived' in reply;
}

function pathsOf(agent: Parameters<typeof archiveThroughAgent>[0]): AgentPaths | null {
  try {
    return agentPaths(agent.spool, agent.instance, agent.env);
  } catch {
    // A server that is started without a home: the agent of such a user has a configured spool, or there is none.
    return null;
  }
}
