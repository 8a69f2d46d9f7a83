import { queryRows, withConnection } from '../../engines/postgres/connection.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LiveInstance } from './live-instance.ts';

/**
 * Has a running server write a checkpoint while its restore is being planned, which nobody waits for: the one that it writes
 * as it is stopped, with everybody shut out, then has little left to write, and few old log files to remove (measured: 560 of
 * them, which archiving had held back, 1.1 s).
 *
 * A server that does not do it, as the role may not ask for it, takes longer to stop, and nothing else. Disposing gives the
 * session up, and waits for nothing; a checkpoint that was begun goes on in the server.
 *
 * @source PostgreSQL manual, CHECKPOINT: superusers, from 15 on also members of pg_checkpoint
 */
export function checkpointAhead(
  context: Pick<InstanceContext, 'connection'>,
  live: Pick<LiveInstance, 'answers' | 'inRecovery'>,
  signal: AbortSignal,
): Disposable | null {
  if (!live.answers || live.inRecovery) return null;
  const over = new AbortController();
  const both = AbortSignal.any([signal, over.signal]);
  withConnection(context.connection, { signal: both }, client =>
    queryRows(client, 'write a checkpoint', { text: 'checkpoint', signal: both }),
  ).catch(() => undefined);
  return { [Symbol.dispose]: () => over.abort() };
}
