import type { ErrorRecord } from './errors.ts';

/** What an operation tells while it works. The text and JSON renderers and the web page draw from these alone. */
export type OperationEvent =
  | StepEvent
  | ProgressEvent
  | NoteEvent
  | { readonly type: 'facts'; readonly topic: string; readonly facts: Readonly<Record<string, unknown>> };

/** A sentence for people; `topic` and `facts` say the same to programs. */
export interface NoteEvent {
  readonly type: 'note';
  readonly level: 'info' | 'warning' | 'error';
  readonly message: string;
  /** Stable, e.g. `gap`. */
  readonly topic?: string;
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Tells what a person should know of; `facts` are for programs. */
export type TellNote = (
  level: NoteEvent['level'],
  message: string,
  facts: { readonly topic: string } & Readonly<Record<string, unknown>>,
) => void;

export interface StepEvent {
  readonly type: 'step';
  /** Stable id, kebab-case. */
  readonly step: string;
  /** What a person reads. */
  readonly title: string;
  readonly state: 'started' | 'done' | 'failed' | 'skipped';
  /** Measured seconds, when done or failed. */
  readonly seconds?: number;
  /** What was found or done, in a few words. */
  readonly detail?: string;
}

export interface ProgressEvent {
  readonly type: 'progress';
  readonly step: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Things counted beside the bytes: files, segments. */
  readonly done?: number;
  readonly total?: number;
  readonly unit?: string;
}

export type OnEvent = (event: OperationEvent) => void;

/** The last line of `--json`. */
export type Outcome =
  | { readonly type: 'result'; readonly result: unknown }
  | ({ readonly type: 'error' } & ErrorRecord);

/** Runs one step, tells when it starts and ends, and passes its result on. `detail` is drawn from the result. */
export async function runStep<T>(
  onEvent: OnEvent,
  step: { readonly id: string; readonly title: string; readonly detail?: (result: T) => string | undefined },
  work: () => Promise<T>,
): Promise<T> {
  const startedAt = performance.now();
  onEvent({ type: 'step', step: step.id, title: step.title, state: 'started' });
  const seconds = (): number => (performance.now() - startedAt) / 1000;
  try {
    const result = await work();
    const detail = step.detail?.(result);
    onEvent({
      type: 'step',
      step: step.id,
      title: step.title,
      state: 'done',
      seconds: seconds(),
      ...(detail === undefined ? {} : { detail }),
    });
    return result;
  } catch (error) {
    onEvent({ type: 'step', step: step.id, title: step.title, state: 'failed', seconds: seconds() });
    throw error;
  }
}
