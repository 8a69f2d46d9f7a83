import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorRecord, fromErrorRecord } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { BEAT_MS, type WatchdogOrder, type WatchdogReport } from './watchdog-protocol.ts';

export interface SynchronousGuardOptions {
  /** The program and the arguments that run the watchdog. */
  readonly command: readonly string[];
  readonly timeoutMs: number;
  readonly health: () => { readonly ok: boolean; readonly caughtUp: boolean };
  readonly note: TellNote;
  /** Commits cannot be made to wait: the agent was asked for something it cannot keep. */
  readonly onRefused: (error: Error) => void;
}

/** How long the end waits until commits no longer wait. */
const END_MS = 15_000;
const RESTART_MS = 1000;

/** The agent's side of its watchdog: starts it, tells it how things are, starts another when it is killed. */
export class SynchronousGuard {
  readonly #options: SynchronousGuardOptions;
  #child: ChildProcess | null = null;
  #state: 'waiting' | 'on' = 'waiting';
  #isEnding = false;
  #beat: NodeJS.Timeout | null = null;

  constructor(options: SynchronousGuardOptions) {
    this.#options = options;
  }

  get state(): 'waiting' | 'on' {
    return this.#state;
  }

  start(): void {
    this.#spawn();
    this.#beat = setInterval(() => this.#tell(this.#options.health()), BEAT_MS);
  }

  /** Resolves when commits no longer wait for the agent, or the watchdog goes on trying alone. */
  async end(): Promise<void> {
    this.#isEnding = true;
    if (this.#beat !== null) clearInterval(this.#beat);
    const child = this.#child;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
    this.#tell({ end: true });
    await Promise.race([ended, sleep(END_MS, undefined, { ref: false })]);
    // One that cannot reach the server goes on trying, alone.
    child.stdin?.destroy();
    child.stdout?.destroy();
    child.unref();
  }

  #spawn(): void {
    const [program = '', ...args] = this.#options.command;
    // In a session of its own: what the terminal sends to the agent's group, or kills with it, does not reach it.
    const child = spawn(program, args, { detached: true, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    // It may be gone before what it is told arrives.
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', line => this.#onReport(JSON.parse(line)));
    child.on('error', error => this.#onExit(child, error.message));
    child.on('exit', (code, signal) => this.#onExit(child, `it ended with ${code ?? signal}`));
  }

  #onExit(child: ChildProcess, why: string): void {
    if (this.#child !== child || this.#isEnding) return;
    this.#child = null;
    this.#options.note(
      'warning',
      `the watchdog of the synchronous agent is gone (${why}): another is started`,
      {
        topic: 'watchdog',
      },
    );
    // Not at once: something that cannot start would keep the machine busy.
    setTimeout(() => {
      if (!this.#isEnding) this.#spawn();
    }, RESTART_MS).unref();
  }

  #onReport(report: WatchdogReport): void {
    const { note } = this.#options;
    if ('refused' in report) {
      this.#isEnding = true;
      this.#options.onRefused(fromErrorRecord(report.refused as ErrorRecord));
      return;
    }
    const was = this.#state;
    this.#state = report.state === 'on' ? 'on' : 'waiting';
    const facts = { topic: 'synchronous', state: report.state };
    if (report.state === 'on')
      note('info', 'commits wait for the agent: none that was answered is lost', facts);
    else if (report.overruled === true)
      note(
        'warning',
        'somebody took the agent out of synchronous_standby_names: commits no longer wait for it',
        facts,
      );
    else if (was === 'on' && !this.#isEnding)
      note('warning', 'commits no longer wait for the agent: it did not keep up', facts);
  }

  #tell(order: WatchdogOrder): void {
    if (this.#child?.stdin?.writable) this.#child.stdin.write(`${JSON.stringify(order)}\n`);
  }
}
