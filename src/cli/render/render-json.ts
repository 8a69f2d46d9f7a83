import type { ErrorRecord } from '../../base/errors.ts';
import type { Outcome } from '../../base/events.ts';
import type { Renderer } from './renderer.ts';

/** One JSON object per line: every event, then the outcome (docs/json-output.md). */
export function createJsonRenderer(write: (line: string) => void): Renderer {
  const print = (value: unknown): void => write(JSON.stringify(value, replacer));
  return {
    onEvent: print,
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
