import type { ErrorRecord } from '../../base/errors.ts';
import type { OperationEvent, ProgressEvent, StepEvent } from '../../base/events.ts';
import { formatSeconds } from '../../base/sizes.ts';
import { errorLines } from './error-text.ts';
import { formatFact } from './format-fact.ts';
import type { LiveArea } from './live-area.ts';
import { createPage, type Page } from './page.ts';
import { progressBar, progressDone, progressText } from './progress-line.ts';
import { createRate, type Rate } from './rate.ts';
import type { Renderer } from './renderer.ts';
import type { Style } from './style.ts';
import { wrapLine } from './wrap.ts';

export interface TextOptions {
  readonly style: Style;
  /** Writes a finished line to the output. */
  readonly write: (line: string) => void;
  readonly writeError: (line: string) => void;
  /** Of the terminal, asked anew for each line: its window may change. Null where there is none. */
  readonly columns?: () => number | null;
  /** Where lines can be drawn over; null where they cannot: then progress is a line now and then. */
  readonly live: LiveArea | null;
  /** Only results, warnings and errors. */
  readonly quiet: boolean;
  /** Also when a step starts. */
  readonly verbose: boolean;
  /** How the command draws facts of a topic; others are drawn by their names. */
  readonly drawFacts?: FactsDrawing | undefined;
  /** Milliseconds that only go forward. */
  readonly now: () => number;
}

/** Draws facts by topic. */
export type FactsDrawing = Readonly<
  Record<string, (page: Page, facts: Readonly<Record<string, unknown>>) => void>
>;

interface ActiveStep {
  readonly title: string;
  readonly rate: Rate;
  progress: ProgressEvent | null;
  drawnAtMs: number;
}

const liveEveryMs = 100;
const plainEveryMs = 10_000;

/** The text of the tutorial: steps with a tick and their seconds, bars while they go on. */
export function createTextRenderer(options: TextOptions): Renderer {
  const { style, live, quiet } = options;
  const active = new Map<string, ActiveStep>();
  const columns = options.columns ?? (() => null);
  // What is drawn begins with an empty line, and what stands above it may have ended with one.
  let endsEmpty = false;
  const putBy =
    (write: (line: string) => void) =>
    (line: string): void => {
      if (line !== '' || !endsEmpty) write(line);
      endsEmpty = line === '';
    };
  const put = putBy(line => (live ? live.print(line) : options.write(line)));
  const print = (line: string): void => {
    for (const part of wrapLine(line, columns())) put(part);
  };
  const openPage = (): Page => createPage(style, put, columns());
  const redraw = (): void =>
    live?.draw([...active.values()].flatMap(step => liveLines(step, style, columns())));

  function onStep(event: StepEvent): void {
    if (event.state === 'started') {
      active.set(event.step, {
        title: event.title,
        rate: createRate(),
        progress: null,
        drawnAtMs: options.now(),
      });
      if (options.verbose && !live && !quiet) print(`  … ${event.title}`);
    } else {
      active.delete(event.step);
    }
    if (quiet) return;
    redraw();
    if (event.state !== 'started') print(`  ${stepLine(event, style)}`);
  }

  function onProgress(event: ProgressEvent): void {
    const step = active.get(event.step);
    if (!step || quiet) return;
    const now = options.now();
    step.progress = event;
    step.rate.add(progressDone(event), now);
    if (now - step.drawnAtMs < (live ? liveEveryMs : plainEveryMs)) return;
    step.drawnAtMs = now;
    if (live) redraw();
    else print(`  … ${step.title}: ${progressText(event, step.rate.perSecond())}`);
  }

  function drawFacts({ topic, facts }: Extract<OperationEvent, { type: 'facts' }>): void {
    const draw = options.drawFacts?.[topic];
    if (draw) {
      draw(openPage(), facts);
      return;
    }
    const page = openPage();
    page.section(
      topic,
      Object.entries(facts).map(([name, value]) => formatFact(name, value)),
    );
    page.line();
  }

  function onEvent(event: OperationEvent): void {
    if (event.type === 'step') onStep(event);
    else if (event.type === 'progress') onProgress(event);
    else if (event.type === 'note') {
      if (event.level === 'error') print(`${style.bad('✗ error:')} ${event.message}`);
      else if (event.level === 'warning') print(`${style.warn('⚠️  warning:')} ${event.message}`);
      else if (!quiet) print(`  ${event.message}`);
    } else if (!quiet) drawFacts(event);
  }

  return {
    onEvent,
    show: draw => draw(openPage()),
    pause: () => live?.draw([]),
    result(_result, draw) {
      live?.end();
      draw(createPage(style, putBy(options.write), columns()));
    },
    error(record: ErrorRecord) {
      live?.end();
      for (const line of errorLines(record, style))
        for (const part of wrapLine(line, columns())) options.writeError(part);
    },
  };
}

function stepLine(event: StepEvent, style: Style): string {
  const detail = event.detail === undefined ? '' : `: ${event.detail}`;
  const seconds = event.seconds === undefined ? '' : ` ${style.dim(`(${formatSeconds(event.seconds)})`)}`;
  if (event.state === 'failed')
    return `${style.bad('✗')} ${event.title}${detail === '' ? ': not done' : detail}${seconds}`;
  if (event.state === 'skipped') return style.dim(`- ${event.title}${detail === '' ? ': skipped' : detail}`);
  return `${style.good('✓')} ${event.title}${detail}${seconds}`;
}

function liveLines(step: ActiveStep, style: Style, columns: number | null): readonly string[] {
  const { progress } = step;
  if (progress === null) return [`  ⏳ ${step.title}`];
  const text = progressText(progress, step.rate.perSecond());
  // Of a narrow terminal, the bar gives way to the numbers.
  const room = columns === null ? undefined : columns - text.length - 6;
  return [`  ⏳ ${step.title}`, `  ${style.good(progressBar(progress, room))} ${text}`];
}
