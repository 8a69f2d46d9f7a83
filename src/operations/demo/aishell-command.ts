import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
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
  const child = startCommand(command, args, options.onEvent);
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

/** An agent that runs beside the story. */
export interface DemoAgent {
  /** Ends it as Ctrl-C would; resolves when it has ended. */
  stop(): Promise<void>;
}

/**
 * Starts `aishell agent run`; resolves once it streams.
 *
 * @throws the error with which it ended instead; the signal's reason when cancelled
 */
export async function startDemoAgent(
  command: AishellCommand,
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<DemoAgent> {
  options.signal.throwIfAborted();
  const child = startCommand(command, ['agent', 'run'], options.onEvent);
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()));
  const streaming = Promise.withResolvers<void>();
  child.once('error', streaming.reject);
  child.stderr.resume();
  const cancel = (): void => streaming.reject(options.signal.reason);
  options.signal.addEventListener('abort', cancel, { once: true });
  createInterface({ input: child.stdout }).on('line', line => {
    const message = JSON.parse(line) as OperationEvent | Outcome;
    if (message.type === 'note' && message.topic === 'streaming') streaming.resolve();
    // What it says later, as that its server is stopped for a while, is part of the story elsewhere.
    if (message.type === 'error') streaming.reject(fromErrorRecord(message));
  });
  void closed.then(() => streaming.reject(new AppError('BUG', 'the agent ended before it streamed')));
  const stop = async (): Promise<void> => {
    child.kill('SIGINT');
    const impatient = setTimeout(() => child.kill('SIGKILL'), CANCEL_TIMEOUT_MS);
    await closed;
    clearTimeout(impatient);
  };
  try {
    await streaming.promise;
    return { stop };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    options.signal.removeEventListener('abort', cancel);
  }
}

function startCommand(
  command: AishellCommand,
  args: readonly string[],
  onEvent: OnEvent,
): ChildProcessByStdio<null, Readable, Readable> {
  onEvent({ type: 'note', level: 'info', message: `$ aishell ${args.map(quoted).join(' ')}` });
  return spawn(command.launcher, [...args, '--json'], {
    cwd: command.cwd,
    env: command.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A session of its own, so that Ctrl-C reaches it through us alone, once.
    detached: true,
    ...(command.user === null ? {} : { uid: command.user.uid, gid: command.user.gid }),
  });
}

/** Facts and remarks of a single command would drown the story; its steps are the story. */
function isInfo(event: OperationEvent): boolean {
  return event.type === 'note' && event.level === 'info';
}

/** As it would stand in a shell. */
function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
