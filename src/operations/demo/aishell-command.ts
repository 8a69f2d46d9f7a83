import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { AppError, fromErrorRecord } from '../../base/errors.ts';
import type { OnEvent, OperationEvent, Outcome } from '../../base/events.ts';
import type { ServerUser } from '../../engines/postgres/embedded-process.ts';

/** How the demo runs this very program: as its user would type it, in a process of its own, as the server's account. */
export interface AishellCommand {
  /** Path of `bin/aishell`. */
  readonly launcher: string;
  readonly user: ServerUser | null;
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

/** How long a command may take to stop when it is cancelled. */
const CANCEL_TIMEOUT_MS = 15_000;

/**
 * Runs one command with `--json` and returns its result. Its steps, progress and warnings are passed on.
 *
 * @throws the error with which the command ended; the signal's reason when cancelled, once the command has ended
 */
export async function runAishell(
  command: AishellCommand,
  args: readonly string[],
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<Readonly<Record<string, unknown>>> {
  options.signal.throwIfAborted();
  options.onEvent({ type: 'note', level: 'info', message: `$ aishell ${args.map(quoted).join(' ')}` });
  const child = spawn(command.launcher, [...args, '--json'], {
    cwd: command.cwd,
    env: command.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A session of its own, so that Ctrl-C reaches it through us alone, once.
    detached: true,
    ...(command.user === null ? {} : { uid: command.user.uid, gid: command.user.gid }),
  });
  const cancel = (): void => {
    child.kill('SIGINT');
    setTimeout(() => child.kill('SIGKILL'), CANCEL_TIMEOUT_MS).unref();
  };
  options.signal.addEventListener('abort', cancel, { once: true });
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  let errorText = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errorText += text;
  });
  try {
    let outcome: Outcome | null = null;
    for await (const line of createInterface({ input: child.stdout })) {
      const message = JSON.parse(line) as OperationEvent | Outcome;
      if (message.type === 'result' || message.type === 'error') outcome = message;
      else if (message.type !== 'facts' && !isInfo(message)) options.onEvent(message);
    }
    await closed;
    options.signal.throwIfAborted();
    if (outcome?.type === 'result') return outcome.result as Readonly<Record<string, unknown>>;
    if (outcome?.type === 'error') throw fromErrorRecord(outcome);
    throw new AppError('BUG', `'aishell ${args.join(' ')}' ended without a result: ${errorText.trim()}`);
  } finally {
    options.signal.removeEventListener('abort', cancel);
  }
}

/** Facts and remarks of a single command would drown the story; its steps are the story. */
function isInfo(event: OperationEvent): boolean {
  return event.type === 'note' && event.level === 'info';
}

/** As it would stand in a shell. */
function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
