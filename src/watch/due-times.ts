const FIRST_MS = 1000;
const LONGEST_MS = 60_000;

/** When something is due for each of its keys: after a second, and then less and less often, at last once a minute. */
export class DueTimes<Key extends object> {
  readonly #times = new WeakMap<Key, { nextMs: number; everyMs: number }>();

  /** Whether it is due now; then the next time is later. A key that was not begun with is due at once. */
  isDue(key: Key): boolean {
    const now = performance.now();
    const time = this.#times.get(key) ?? { nextMs: now, everyMs: FIRST_MS };
    if (now < time.nextMs) return false;
    this.#times.set(key, {
      nextMs: now + time.everyMs,
      everyMs: Math.min(time.everyMs * 2, LONGEST_MS),
    });
    return true;
  }
}
