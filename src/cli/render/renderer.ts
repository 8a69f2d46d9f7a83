import type { ErrorRecord } from '../../base/errors.ts';
import type { OnEvent } from '../../base/events.ts';
import type { Page } from './page.ts';

/** Shows one command: what it tells while it works, then its result or its error. */
export interface Renderer {
  readonly onEvent: OnEvent;
  /** Text that stands before the work, such as what a question is about. Not part of `--json`. */
  show(draw: (page: Page) => void): void;
  /** Leaves the terminal to someone else, e.g. a question; drawing goes on with the next event. */
  pause(): void;
  result(result: unknown, draw: (page: Page) => void): void;
  error(record: ErrorRecord): void;
}
