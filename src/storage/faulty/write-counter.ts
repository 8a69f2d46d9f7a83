import { randomBytes } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';

/** Counts writes: gives the ordinal of this one, from 1. */
export type WriteCounter = (write: string) => Promise<number>;

/**
 * Counts over threads and processes. A line is appended at once (O_APPEND), and the number of the line that carries the
 * token is the ordinal: no two writes get the same, none is left out.
 */
export function fileCounter(path: string): WriteCounter {
  return async write => {
    const token = randomBytes(9).toString('base64url');
    await appendFile(path, `${token} ${write}\n`);
    return (await readLines(path)).findIndex(line => line.startsWith(`${token} `)) + 1;
  };
}

export function localCounter(): WriteCounter {
  let count = 0;
  return async () => {
    count += 1;
    return count;
  };
}

/** The writes a counter file has seen, in their order: `put <key>`, `delete <key>`. */
export async function readCountedWrites(path: string): Promise<string[]> {
  return (await readLines(path)).map(line => line.slice(line.indexOf(' ') + 1));
}

async function readLines(path: string): Promise<string[]> {
  const lines = (await readFile(path, 'utf8')).split('\n');
  return lines.slice(0, -1);
}
