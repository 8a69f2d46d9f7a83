import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { RowSpool, SpoolReader } from '../../../src/operations/lost/row-spool.ts';

test('rows with every kind of line end in their values - come back as they are', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'row-spool-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const spool = await RowSpool.create(join(directory, 'rows'));
  const texts = [
    'a\nb',
    'a\r\nb',
    'a\rb',
    'a\u2028b',
    'a\u2029b',
    'a\u0085b',
    '\u2028',
    String.raw`a\u2028b`,
  ];
  for (const [index, text] of texts.entries()) await spool.add({ index, values: [text, null], whole: text });
  const reader = new SpoolReader(spool);
  for (const [index, text] of texts.entries())
    expect(await reader.take(index)).toEqual({ index, values: [text, null], whole: text });
  await spool.close();
});
