import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { inject } from 'vitest';
import { shellCommand } from '../../src/engines/postgres/service-process.ts';

/** The program at a pseudo terminal; what is left of it at the end of the scope is killed. */
export interface TestTerminal extends AsyncDisposable {
  /** Types a line. */
  type(line: string): void;
  /** Presses keys, as they come from a keyboard: `\x03` for Ctrl-C. */
  press(keys: string): void;
  /** Waits for something to be shown behind what was waited for before, and gives what was shown up to its end. */
  until(pattern: RegExp): Promise<string>;
  /** All that was shown, without colours and cursor movements. */
  shown(): string;
  readonly done: Promise<number | null>;
}

const SHOWN_WITHIN_MS = 60_000;

/** Runs `aishell` at a terminal of 100 columns, as the account that runs the servers. */
export function openTerminal(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): TestTerminal {
  const { program, home, user } = inject('harness');
  if ('buildError' in program) throw new Error(program.buildError);
  const command = `stty cols 100 rows 40; exec ${shellCommand([program.launcher, ...args])}`;
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    cwd: home,
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: home,
      LC_ALL: 'C.UTF-8',
      TERM: 'xterm',
      SHELL: '/bin/sh',
      ...env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
  });
  child.stdin.on('error', () => undefined);
  let raw = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    raw += text;
  });
  const done = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const shown = (): string => stripVTControlCharacters(raw).replace(/\r/g, '');
  let read = 0;
  return {
    type: line => void child.stdin.write(`${line}\r`),
    press: keys => void child.stdin.write(keys),
    shown,
    done,
    async until(pattern) {
      for (let waited = 0; waited < SHOWN_WITHIN_MS; waited += 20) {
        const rest = shown().slice(read);
        const match = pattern.exec(rest);
        if (match) {
          const end = match.index + match[0].length;
          read += end;
          return rest.slice(0, end);
        }
        await sleep(20);
      }
      throw new Error(
        `${pattern} is not shown:\n${shown().slice(read)}\n--- before it:\n${shown().slice(0, read)}`,
      );
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.pid !== undefined) {
        try {
          process.kill(-child.pid, 'SIGKILL');
        } catch {
          // It has ended meanwhile.
        }
      }
      await done.catch(() => undefined);
    },
  };
}
