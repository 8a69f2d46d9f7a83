/** How quickly something goes on, over the last seconds: what a person watching wants to know. */
export interface Rate {
  add(done: number, nowMs: number): void;
  /** Units per second; null until there is enough to tell. */
  perSecond(): number | null;
}

const windowMs = 5000;
const shortestMs = 400;

export function createRate(): Rate {
  const samples: { readonly done: number; readonly atMs: number }[] = [];
  return {
    add(done, nowMs) {
      const last = samples.at(-1);
      // Going back means that the work was begun anew.
      if (last && done < last.done) samples.length = 0;
      samples.push({ done, atMs: nowMs });
      while (samples.length > 2 && nowMs - (samples[1]?.atMs ?? nowMs) >= windowMs) samples.shift();
    },
    perSecond() {
      const [first, last] = [samples[0], samples.at(-1)];
      if (!first || !last || last.atMs - first.atMs < shortestMs) return null;
      return ((last.done - first.done) * 1000) / (last.atMs - first.atMs);
    },
  };
}
