import type { UndoReport } from './undo-report.ts';

/** Where the time of an undo went. */
export interface UndoClock {
  readonly seconds: UndoReport['seconds'];
  /** Adds the time since the last lap. */
  lap(name: keyof UndoReport['seconds']): void;
  /** The time since then is nobody's: a person was asked. */
  skip(): void;
}

export function startClock(): UndoClock {
  const seconds = { source: 0, gather: 0, merge: 0, compare: 0 };
  let from = performance.now();
  return {
    get seconds() {
      return { ...seconds };
    },
    lap(name) {
      const now = performance.now();
      seconds[name] += (now - from) / 1000;
      from = now;
    },
    skip() {
      from = performance.now();
    },
  };
}
