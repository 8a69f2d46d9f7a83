import { createInterface, type Interface } from 'node:readline';
import type { Terminal } from '../terminal.ts';

/** Lines that somebody types at a prompt, with the arrow keys for what was typed before. */
export interface PromptLines {
  /** The next line; null when the input has ended. What was typed ahead is taken first. */
  next(prompt: string): Promise<string | null>;
  /** A line typed now, whatever was typed ahead; it is no part of what the arrow keys show. Rejects when the signal aborts. */
  answer(prompt: string, signal: AbortSignal): Promise<string | null>;
  /** Called for Ctrl-C. */
  onInterrupt: () => void;
  /** Shows what the arrow keys give from now on, the newest first. */
  remember(entries: readonly string[]): void;
  /** Drops lines that were typed ahead; gives how many there were. */
  forget(): number;
  /** Empties the line that is being typed. */
  clear(): void;
  /** Shows a prompt in place of the one that waits. */
  redraw(prompt: string): void;
  close(): void;
}

export function openPromptLines(terminal: Terminal, entries: readonly string[]): PromptLines {
  const ahead: string[] = [];
  let waiting: { resolve(line: string | null): void } | null = null;
  let ended = false;
  let history: string[] = [];
  const lines: Interface = createInterface({
    input: terminal.stdin,
    output: terminal.stdout,
    terminal: true,
    history: [...entries],
    historySize: 1000,
  });
  const remember = (known: readonly string[]): void => void history.splice(0, history.length, ...known);
  let known = entries;
  // Every line is added by itself; what is to be shown are whole statements, without their secrets.
  lines.on('history', kept => {
    history = kept;
    remember(known);
  });
  lines.on('line', line => {
    const taker = waiting;
    waiting = null;
    if (taker === null) ahead.push(line);
    else taker.resolve(line);
  });
  lines.once('close', () => {
    ended = true;
    waiting?.resolve(null);
  });
  const wait = (prompt: string): Promise<string | null> => {
    if (ended) return Promise.resolve(null);
    const { promise, resolve } = Promise.withResolvers<string | null>();
    waiting = { resolve };
    lines.setPrompt(prompt);
    lines.prompt(true);
    return promise;
  };
  const own: PromptLines = {
    onInterrupt: () => undefined,
    async next(prompt) {
      const line = ahead.shift();
      return line ?? (await wait(prompt));
    },
    async answer(prompt, signal) {
      signal.throwIfAborted();
      own.forget();
      const stopped = Promise.withResolvers<never>();
      const onAbort = (): void => {
        waiting = null;
        terminal.stdout.write('\n');
        stopped.reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      try {
        return await Promise.race([wait(prompt), stopped.promise]);
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
    },
    remember(entriesNow) {
      known = entriesNow;
      remember(entriesNow);
    },
    forget: () => ahead.splice(0).length,
    clear() {
      // As readline does with Ctrl-E and Ctrl-U: to the end of the line, then all of it.
      lines.write(null, { ctrl: true, name: 'e' });
      lines.write(null, { ctrl: true, name: 'u' });
    },
    redraw(prompt) {
      lines.setPrompt(prompt);
      lines.prompt();
    },
    close: () => lines.close(),
  };
  lines.on('SIGINT', () => own.onInterrupt());
  return own;
}
