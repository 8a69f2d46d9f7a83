import { appendFile, chmod, mkdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import { parseJsonLine } from './json-line.ts';

/** What is kept of a statement that was run, or was not. */
export interface HistoryEntry {
  /** ISO 8601. */
  readonly at: string;
  /** Of the operating system. */
  readonly user: string;
  readonly instance: string;
  readonly database: string;
  /** Of the database. */
  readonly role: string;
  /** With its secrets left out. */
  readonly statement: string;
  readonly outcome: string;
  readonly rows: number | null;
  readonly xid: string | null;
  readonly seconds: number;
  /** What went wrong; null when nothing did. */
  readonly error: string | null;
}

const FILE = 'statements.jsonl';
const LARGEST_BYTES = 4_000_000;
const KEPT_FILES = 4;
/** A statement longer than this is cut: a line is written with one call, so that two consoles do not mix theirs. */
const LONGEST_STATEMENT = 16_000;

/** Adds a line to the history, which its owner alone can read. @throws FILE_FAILED DISK_FULL */
export async function recordStatement(directory: string, entry: HistoryEntry): Promise<void> {
  const path = join(directory, FILE);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await rotate(path);
    const { statement } = entry;
    const cut =
      statement.length > LONGEST_STATEMENT ? `${statement.slice(0, LONGEST_STATEMENT)}…` : statement;
    await appendFile(path, `${JSON.stringify({ ...entry, statement: cut })}\n`, { mode: 0o600 });
    await chmod(path, 0o600);
  } catch (error) {
    throw fileError('write', path, error);
  }
}

async function rotate(path: string): Promise<void> {
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  );
  if (size < LARGEST_BYTES) return;
  for (let number = KEPT_FILES - 1; number >= 0; number -= 1) {
    const from = number === 0 ? path : `${path}.${number}`;
    // Another console may have done it a moment ago.
    await rename(from, `${path}.${number + 1}`).catch(error => {
      if (systemCode(error) !== 'ENOENT') throw error;
    });
  }
}

/** The newest entries of an instance, oldest first. Lines that cannot be read are left out. @throws FILE_FAILED */
export async function readStatementHistory(
  directory: string,
  { instance, limit }: { readonly instance: string | null; readonly limit: number },
): Promise<readonly HistoryEntry[]> {
  const found: HistoryEntry[] = [];
  for (let number = 0; number <= KEPT_FILES && found.length < limit; number += 1) {
    const path = join(directory, number === 0 ? FILE : `${FILE}.${number}`);
    const text = await readFile(path, 'utf8').catch(error => {
      if (systemCode(error) === 'ENOENT') return '';
      throw fileError('read', path, error);
    });
    const entries = text.split('\n').flatMap(line => {
      const entry = parseJsonLine(line);
      return isEntry(entry) && (instance === null || entry.instance === instance) ? [entry] : [];
    });
    found.unshift(...entries);
  }
  return found.slice(-limit);
}

function isEntry(value: unknown): value is HistoryEntry {
  return (
    typeof value === 'object' && value !== null && 'statement' in value && 'at' in value && 'outcome' in value
  );
}
