import { appendFile, chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { maskSecrets } from '../../engines/postgres/sql/mask-secrets.ts';
import type { SqlParser } from '../../engines/postgres/sql/sql-parser.ts';
import { parseJsonLine } from '../../operations/sql/json-line.ts';

const FILE = 'input.jsonl';
const MOST_ENTRIES = 1000;
const TIDY_ABOVE_BYTES = 2_000_000;

/** What was typed at the console before, for the arrow keys: the newest first, without secrets. */
export interface InputHistory {
  readonly entries: string[];
  /** Keeps an input. Not being able to is no reason to stop: it is only for comfort. */
  add(input: string): Promise<void>;
}

/** @param directory null: it is kept for this run alone */
export async function openInputHistory(directory: string | null, parser: SqlParser): Promise<InputHistory> {
  const entries = directory === null ? [] : await readEntries(directory);
  return {
    entries,
    async add(input) {
      const masked = onOneLine(parser, maskSecrets(parser, input.trim()));
      if (masked === '' || masked === entries[0]) return;
      entries.unshift(masked);
      entries.length = Math.min(entries.length, MOST_ENTRIES);
      if (directory !== null) await keep(join(directory, FILE), masked).catch(() => undefined);
    },
  };
}

async function readEntries(directory: string): Promise<string[]> {
  const path = join(directory, FILE);
  const text = await readFile(path, 'utf8').catch(() => '');
  const read = text.split('\n').flatMap(line => {
    const entry = parseJsonLine(line);
    return typeof entry === 'string' ? [entry] : [];
  });
  const entries = read.slice(-MOST_ENTRIES);
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  );
  if (size > TIDY_ABOVE_BYTES) {
    const lines = entries.map(entry => `${JSON.stringify(entry)}\n`).join('');
    await writeFile(path, lines, { mode: 0o600 }).catch(() => undefined);
  }
  return entries.reverse();
}

async function keep(path: string, entry: string): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
  await appendFile(path, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
  await chmod(path, 0o600);
}

/** Lines joined, for a terminal that edits one; comments go, as they would swallow what follows. */
function onOneLine(parser: SqlParser, input: string): string {
  if (!input.includes('\n')) return input;
  const tokens = parser.scan(input);
  if (tokens === null) return input.replace(/\s+/g, ' ');
  let line = '';
  let end = 0;
  for (const token of tokens) {
    const gap = token.start > end && line !== '' ? ' ' : '';
    end = token.end;
    if (token.kind === 'comment') continue;
    line += gap + token.text;
  }
  return line;
}
