import { committedAt, FileNames, type LostOutput, OutputFile } from './lost-output.ts';
import type { TableShape } from './table-shape.ts';

interface CsvFile {
  readonly file: OutputFile;
  readonly columns: readonly string[];
}

const OWN_COLUMNS = ['_xid', '_committed_at', '_operation'];
const operations = {
  insert: 'insert',
  update: 'update',
  delete: 'delete',
  'on top': 'update after the disaster',
  gone: null,
} as const;

/** A file for each table, with a line for each row as it was last; a deleted one as it was at the target. */
export function createCsvOutput(directory: string): LostOutput {
  const names = new FileNames();
  const files = new Map<string, CsvFile>();
  const fileFor = async ({ database, schema, table, columns }: TableShape): Promise<CsvFile> => {
    const name = names.nameFor([database, schema, table], '.csv');
    const known = files.get(name);
    if (known !== undefined) return known;
    const made = { file: await OutputFile.create(directory, name), columns };
    await made.file.write(lineOf([...OWN_COLUMNS, ...columns]));
    files.set(name, made);
    return made;
  };
  return {
    async write({ operation, shape, transaction, before, after }) {
      const row = after ?? before;
      const what = operations[operation];
      if (row === null || what === null) return false;
      const csv = await fileFor(shape);
      const byName = new Map(shape.columns.map((column, index) => [column, row.values[index] ?? null]));
      const values = csv.columns.map(column => byName.get(column) ?? null);
      await csv.file.write(lineOf([String(transaction.xid), committedAt(transaction), what, ...values]));
      csv.file.rows += 1;
      return true;
    },
    async finish() {
      for (const { file } of files.values()) await file.close();
      return [...files.values()].map(({ file }) => ({ path: file.path, rows: file.rows }));
    },
  };
}

/** As COPY … CSV reads it: null is nothing, an empty text is `""`. @source RFC 4180; PostgreSQL manual, COPY, "CSV Format" */
function lineOf(values: readonly (string | null)[]): string {
  const fields = values.map(value => {
    if (value === null) return '';
    return value === '' || /[",\r\n]|^\s|\s$|^\\\.$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  });
  return `${fields.join(',')}\n`;
}
