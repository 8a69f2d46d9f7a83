import { delay } from '../base/abort.ts';
import type { Alerting } from '../notify/alerting.ts';
import { flushOutbox } from '../notify/flush-outbox.ts';

const EVERY_MS = 5000;

/** Delivers what could not be told at once, as soon as it can; resolves when the signal has aborted. */
export async function keepOutbox(alerting: Alerting, signal: AbortSignal): Promise<void> {
  while (alerting.channels.length > 0 && !signal.aborted) {
    await flushOutbox(alerting, { signal });
    await delay(EVERY_MS, signal).catch(() => undefined);
  }
}
