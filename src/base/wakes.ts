/** Lets some wait until others say that something may have changed. */
export class Wakes {
  readonly #waiting = new Set<() => void>();

  /** Wakes all who wait. */
  wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Waits to be woken. @throws the signal's reason when it is aborted before */
  async wait(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#waiting.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
    signal.removeEventListener('abort', wake);
    this.#waiting.delete(wake);
    signal.throwIfAborted();
  }
}
