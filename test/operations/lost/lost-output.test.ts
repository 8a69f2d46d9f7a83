import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createCsvOutput } from '../../../src/operations/lost/csv-output.ts';
import { FileNames, type ReadRow } from '../../../src/operations/lost/lost-output.ts';
import { createSqlOutput } from '../../../src/operations/lost/sql-output.ts';
import type { TableShape } from '../../../src/operations/lost/table-shape.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const shape: TableShape = {
  ...{ database: 'shop', schema: 'public', table: 'Odd "name"', name: 'public."Odd ""name"""' },
  ...{ columns: ['id', 'Text'], quoted: ['id', '"Text"'], key: [{ index: 0, operator: '=' }] },
};
const first = { xid: 812, timeUs: 1_761_573_623_145_678n, lsn: 1n };
const second = { xid: 815, timeUs: 1_761_573_624_000_000n, lsn: 2n };

function row(
  operation: ReadRow['operation'],
  before: readonly (string | null)[] | null,
  after: readonly (string | null)[] | null,
  more: Partial<ReadRow> = {},
): ReadRow {
  return {
    ...{ operation, transaction: first, leftBy: null, shape },
    before: before && { index: 0, values: before, whole: "'(1,a)'", shape: more.shape ?? shape },
    after: after && { index: 0, values: after, whole: null },
    ...more,
  };
}

test('SQL - a transaction for each, by key, and only columns that differ', async () => {
  await using directory = await temporaryDirectory();
  const out = createSqlOutput(directory.path);
  expect(await out.write(row('insert', null, ["'1'", 'NULL'], { leftBy: second }))).toBe(true);
  expect(await out.write(row('update', ["'2'", "'a'"], ["'2'", "E'b\\\\\\n;'"]))).toBe(true);
  expect(await out.write(row('update', ["'2'", "'a'"], ["'2'", "'a'"]))).toBe(false);
  expect(await out.write(row('delete', ["'3'", "'c'"], null, { transaction: second }))).toBe(true);
  const keyless = { ...shape, key: null };
  expect(await out.write(row('delete', ["'3'", "'c'"], null, { transaction: second, shape: keyless }))).toBe(
    true,
  );
  expect(await out.finish()).toEqual([{ path: `${directory.path}/shop.sql`, rows: 4 }]);
  const [, text] = (await readFile(`${directory.path}/shop.sql`, 'utf8')).split("SET lc_monetary = 'C';\n\n");
  expect(text).toBe(
    [
      '-- transaction 812, committed 2025-10-27T14:00:23.145678Z',
      'BEGIN;',
      `INSERT INTO public."Odd ""name""" (id, "Text") OVERRIDING SYSTEM VALUE VALUES ('1', NULL); -- as transaction 815 left it`,
      `UPDATE ONLY public."Odd ""name""" SET "Text" = E'b\\\\\\n;' WHERE id = '2';`,
      'COMMIT;',
      '',
      '-- transaction 815, committed 2025-10-27T14:00:24.000000Z',
      'BEGIN;',
      `DELETE FROM ONLY public."Odd ""name""" WHERE id = '3';`,
      `DELETE FROM ONLY public."Odd ""name""" WHERE ctid = (SELECT ctid FROM ONLY public."Odd ""name""" AS aishell_row WHERE (aishell_row.*)::text = '(1,a)' LIMIT 1);`,
      'COMMIT;',
      '',
    ].join('\n'),
  );
});

test('CSV - as COPY reads it: nothing for null, quotes where they are needed', async () => {
  await using directory = await temporaryDirectory();
  const out = createCsvOutput(directory.path);
  await out.write(row('insert', null, ['1', null]));
  await out.write(row('update', ['2', 'a'], ['2', 'say "hi",\nyou']));
  await out.write(row('delete', ['3', ''], null, { transaction: second }));
  await out.write(row('on top', null, ['4', '\\.']));
  const [file] = await out.finish();
  expect(file).toMatchObject({ path: `${directory.path}/shop.public.Odd__name_.csv`, rows: 4 });
  expect(await readFile(file?.path ?? '', 'utf8')).toBe(
    [
      '_xid,_committed_at,_operation,id,Text',
      '812,2025-10-27T14:00:23.145678Z,insert,1,',
      '812,2025-10-27T14:00:23.145678Z,update,2,"say ""hi"",\nyou"',
      '815,2025-10-27T14:00:24.000000Z,delete,3,""',
      '812,2025-10-27T14:00:23.145678Z,update after the disaster,4,"\\."',
      '',
    ].join('\n'),
  );
  const again = createCsvOutput(directory.path);
  await expect(again.write(row('insert', null, ['1', 'x']))).rejects.toMatchObject({
    code: 'TARGET_NOT_EMPTY',
  });
});

test('names of files - whatever tables are called, no two share one, and none leads elsewhere', () => {
  const names = new FileNames();
  const given = ['../../etc/passwd', '__/__/etc/passwd', 'a\nb', 'a b', 'a b'].map(table =>
    names.nameFor(['shop', table], '.csv'),
  );
  expect(new Set(given.slice(0, 4)).size).toBe(4);
  expect(given[4]).toBe(given[3]);
  for (const name of given) expect(name).toMatch(/^[\w.-]+$/);
});
