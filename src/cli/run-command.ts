import { exitCodes } from '../base/codes.ts';
import { type ErrorRecord, toErrorRecord } from '../base/errors.ts';
import type { OnEvent } from '../base/events.ts';
import type { Page } from './render/page.ts';
import { createJsonRenderer } from './render/render-json.ts';
import { createTextRenderer, type FactsDrawing } from './render/render-text.ts';
import type { Renderer } from './render/renderer.ts';
import { styleFor } from './render/style.ts';
import { type GlobalFlags, type Output, type Terminal, usesColor } from './terminal.ts';

/** What a command works with. */
export interface CommandRun {
  readonly terminal: Terminal;
  readonly flags: GlobalFlags;
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
  readonly show: Renderer['show'];
  readonly pause: Renderer['pause'];
}

export interface CommandSpec<T> {
  run(run: CommandRun): Promise<T>;
  /** What is going to happen, as a heading. Left out where the result is all there is. */
  readonly title?: string;
  readonly drawFacts?: FactsDrawing;
  /** Draws the result as text. */
  draw(page: Page, result: T): void;
  /** 0 when left out: a command that found something has its own. */
  exitCode?(result: T): number;
}

/** Runs one command from start to exit code; nothing it throws gets past here. */
export async function runCommand<T>(
  terminal: Terminal,
  flags: GlobalFlags,
  spec: CommandSpec<T>,
): Promise<number> {
  const renderer = await createRenderer(terminal, flags, spec.drawFacts);
  try {
    if (spec.title !== undefined && flags.quiet !== true) renderer.show(page => page.title(spec.title ?? ''));
    const result = await spec.run({
      terminal,
      flags,
      signal: terminal.signal,
      onEvent: renderer.onEvent,
      show: renderer.show,
      pause: renderer.pause,
    });
    renderer.result(result, page => spec.draw(page, result));
    return spec.exitCode?.(result) ?? 0;
  } catch (error) {
    const record = recordOf(error, terminal.signal);
    renderer.error(record);
    return exitCodes[record.code];
  }
}

/** What is thrown because the signal was aborted is a cancelled run, whatever form it has. */
export function recordOf(error: unknown, signal: AbortSignal): ErrorRecord {
  const cancelled =
    signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'));
  return cancelled ? { code: 'CANCELLED', message: 'cancelled' } : toErrorRecord(error);
}

export async function createRenderer(
  terminal: Terminal,
  flags: GlobalFlags,
  drawFacts?: FactsDrawing,
): Promise<Renderer> {
  const { stdout, stderr, env } = terminal;
  const writeTo =
    (output: Output) =>
    (line: string): void =>
      void output.write(`${line}\n`);
  const now = (): number => performance.now();
  if (flags.json === true) return createJsonRenderer(writeTo(stdout), now);
  // Some pseudo terminals (of CI) have no size: nothing can be drawn over there.
  const drawable = stdout.isTTY === true && stdout.columns !== 0 && env.TERM !== 'dumb';
  const live = drawable && flags.quiet !== true;
  return createTextRenderer({
    style: styleFor(usesColor(stdout, flags, env)),
    write: writeTo(stdout),
    writeError: writeTo(stderr),
    columns: () => (stdout.isTTY === true && stdout.columns ? stdout.columns : null),
    live: live ? (await import('./render/live-area.ts')).createLiveArea(stdout) : null,
    quiet: flags.quiet === true,
    verbose: flags.verbose === true,
    drawFacts,
    now,
  });
}
