import { AppError } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const guarded = new Set<() => void>();

/**
 * Calls `end` should this program end while the guard stands. Where the program handles a signal itself, that is left to
 * it; where nothing else does, `end` is called and the signal takes its course.
 */
export function guardAgainstExit(end: () => void): () => void {
  if (guarded.size === 0) {
    process.on('exit', endAll);
    for (const signal of signals) process.on(signal, onSignal);
  }
  guarded.add(end);
  return () => {
    if (!guarded.delete(end) || guarded.size > 0) return;
    process.removeListener('exit', endAll);
    for (const signal of signals) process.removeListener(signal, onSignal);
  };
}

function endAll(): void {
  for (const end of guarded) end();
}

function onSignal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  endAll();
  process.removeListener(signal, onSignal);
  process.kill(process.pid, signal);
}

/**
 * What to put before a command so that the kernel ends it with this program, even when that is killed: it gets SIGQUIT,
 * a server's immediate shutdown. Empty where the system has no such thing.
 *
 * @source prctl(2), PR_SET_PDEATHSIG; setpriv(1)
 */
export async function diesWithUs(): Promise<readonly string[]> {
  const prefix = ['setpriv', '--pdeathsig', 'QUIT', '--'];
  try {
    const { exitCode } = await runCommand([...prefix, 'true'], { timeoutMs: 10_000 });
    return exitCode === 0 ? prefix : [];
  } catch (error) {
    if (error instanceof AppError) return [];
    throw error;
  }
}
