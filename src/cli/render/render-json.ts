import type { ErrorRecord } from '../../base/errors.ts';
import type { OperationEvent, Outcome, ProgressEvent } from '../../base/events.ts';
import type { Renderer } from './renderer.ts';

const progressEveryMs = 250;

/**
 * One JSON object per line: every event, then the outcome (docs/json-output.md). Of a step's progress, four lines a second
 * at most, and always the last one.
 *
 * @param now milliseconds that only go forward
 */
export function createJsonRenderer(write: (line: string) => void, now: () => number): Renderer {
  const print = (value: unknown): void => write(JSON.stringify(value, replacer));
  const printedAtMs = new Map<string, number>();
  const heldBack = new Map<string, ProgressEvent>();

  function onProgress(event: ProgressEvent): void {
    const last = printedAtMs.get(event.step);
    if (last !== undefined && now() - last < progressEveryMs) {
      heldBack.set(event.step, event);
      return;
    }
    heldBack.delete(event.step);
    printedAtMs.set(event.step, now());
    print(event);
  }

  function onEvent(event: OperationEvent): void {
    if (event.type === 'progress') {
      onProgress(event);
      return;
    }
    if (event.type === 'step') {
      const last = heldBack.get(event.step);
      if (last) print(last);
      heldBack.delete(event.step);
    }
    print(event);
  }

  return {
    onEvent,
    show: () => undefined,
    pause: () => undefined,
    result: result => print({ type: 'result', result } satisfies Outcome),
    error: (record: ErrorRecord) => print({ type: 'error', ...record } satisfies Outcome),
  };
}

/** What JSON has no form for: big integers as decimal strings, maps as objects, bytes as hexadecimal digits. */
function replacer(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}
