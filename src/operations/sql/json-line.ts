/** The value of a line of JSON; null for one that was cut off or is none. */
export function parseJsonLine(line: string): unknown {
  try {
    return line === '' ? null : JSON.parse(line);
  } catch {
    return null;
  }
}
