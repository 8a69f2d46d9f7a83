import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  type HistoryEntry,
  readStatementHistory,
  recordStatement,
} from '../../../src/operations/sql/statement-history.ts';

function entry(statement: string, instance = 'shop'): HistoryEntry {
  return {
    at: '2025-10-27T13:59:59.000Z',
    user: 'a',
    instance,
    database: 'd',
    role: 'r',
    statement,
    outcome: 'committed',
    rows: 1,
    xid: '7',
    seconds: 0.1,
    error: null,
  };
}

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'aishell-history-'));
  try {
    await work(join(directory, 'sql'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

it('statements - come back in their order, of one instance, for their owner alone', async () => {
  await inDirectory(async directory => {
    for (const name of ['a', 'b', 'c']) await recordStatement(directory, entry(name));
    await recordStatement(directory, entry('other', 'other'));
    const found = await readStatementHistory(directory, { instance: 'shop', limit: 2 });
    expect(found.map(({ statement }) => statement)).toEqual(['b', 'c']);
    expect(await readStatementHistory(directory, { instance: null, limit: 9 })).toHaveLength(4);
    expect((await stat(join(directory, 'statements.jsonl'))).mode & 0o777).toBe(0o600);
  });
});

it('a full file - is put aside, five are kept, and lines that were cut off are passed over', async () => {
  await inDirectory(async directory => {
    const filler = 'x'.repeat(15_000);
    for (let count = 0; count < 1600; count += 1)
      await recordStatement(directory, entry(`${count} ${filler}`));
    await recordStatement(directory, entry('last'));
    const files = (await readdir(directory)).sort();
    expect(files).toEqual(['', '.1', '.2', '.3', '.4'].map(end => `statements.jsonl${end}`));
    const path = join(directory, 'statements.jsonl');
    await writeFile(path, `${await readFile(path, 'utf8')}{"at":"2025`);
    const found = await readStatementHistory(directory, { instance: 'shop', limit: 500 });
    expect(found).toHaveLength(500);
    expect(found.at(-1)?.statement).toBe('last');
    expect(found.at(-2)?.statement).toMatch(/^1599 /);
    expect(found[0]?.statement).toMatch(/^1101 /);
  });
});

it('a statement without end - is cut', async () => {
  await inDirectory(async directory => {
    await recordStatement(directory, entry('y'.repeat(1_000_000)));
    const [found] = await readStatementHistory(directory, { instance: null, limit: 1 });
    expect(found?.statement.length).toBeLessThan(20_000);
  });
});
