const LEVELS = '▁▂▃▄▅▆▇█';
const NOTHING = '·';

/** A row of bars, one character for each value; the highest is a full one, and every value above zero is seen. */
export function sparkline(values: readonly number[]): string {
  const most = Math.max(0, ...values);
  return values
    .map(value => {
      if (value <= 0) return NOTHING;
      const level = Math.ceil((value / most) * LEVELS.length);
      return LEVELS[Math.max(1, level) - 1];
    })
    .join('');
}
