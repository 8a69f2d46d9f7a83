import { committedAt, FileNames, type LostOutput, OutputFile, type ReadRow } from './lost-output.ts';
import type { LostTransaction } from './lost-rows.ts';

interface SqlFile {
  readonly file: OutputFile;
  transaction: LostTransaction | null;
}

/** What a file needs to mean the same on any server. */
const HEADER = `-- What was committed behind the recovery target, without the disaster itself. Read it before you run it:
--   psql -v ON_ERROR_STOP=1 -f FILE DATABASE
-- Triggers fire as for any statement; sequences, large objects and changes of tables themselves are not in it.
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET search_path = '';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 1;
SET bytea_output = 'hex';
SET lc_monetary = 'C';

`;

/** A file for each database: a transaction for each that is lost, in the order of their commits. */
export function createSqlOutput(directory: string): LostOutput {
  const names = new FileNames();
  const files = new Map<string, SqlFile>();
  const fileFor = async (database: string): Promise<SqlFile> => {
    const known = files.get(database);
    if (known !== undefined) return known;
    const made = {
      file: await OutputFile.create(directory, names.nameFor([database], '.sql')),
      transaction: null,
    };
    await made.file.write(HEADER);
    files.set(database, made);
    return made;
  };
  return {
    async write(row) {
      const statement = statementFor(row);
      if (statement === null) return false;
      const sql = await fileFor(row.shape.database);
      if (sql.transaction !== row.transaction) {
        if (sql.transaction !== null) await sql.file.write('COMMIT;\n\n');
        const { xid } = row.transaction;
        await sql.file.write(`-- transaction ${xid}, committed ${committedAt(row.transaction)}\nBEGIN;\n`);
        sql.transaction = row.transaction;
      }
      const note = row.leftBy === null ? '' : ` -- as transaction ${row.leftBy.xid} left it`;
      await sql.file.write(`${statement};${note}\n`);
      sql.file.rows += 1;
      return true;
    },
    async finish() {
      for (const { file, transaction } of files.values()) {
        if (transaction !== null) await file.write('COMMIT;\n');
        await file.close();
      }
      return [...files.values()].map(({ file }) => ({ path: file.path, rows: file.rows }));
    },
  };
}

/** The values are literals of the server's own. Null: no value of the row is another. */
function statementFor({ operation, shape, before, after }: ReadRow): string | null {
  if (operation === 'insert' && after !== null) {
    const columns = shape.quoted.length === 0 ? '' : ` (${shape.quoted.join(', ')})`;
    const values = after.values.map(value => value ?? 'NULL').join(', ');
    return shape.quoted.length === 0
      ? `INSERT INTO ${shape.name} DEFAULT VALUES`
      : `INSERT INTO ${shape.name}${columns} OVERRIDING SYSTEM VALUE VALUES (${values})`;
  }
  if (before === null) return null;
  const { name } = before.shape;
  if (operation === 'delete') return `DELETE FROM ONLY ${name} WHERE ${conditionFor(before)}`;
  if (operation !== 'update' || after === null) return null;
  const old = new Map(before.shape.quoted.map((column, index) => [column, before.values[index]]));
  const changes = shape.quoted.flatMap((column, index) =>
    after.values[index] === old.get(column) ? [] : [`${column} = ${after.values[index] ?? 'NULL'}`],
  );
  if (changes.length === 0) return null;
  return `UPDATE ONLY ${name} SET ${changes.join(', ')} WHERE ${conditionFor(before)}`;
}

/** By its key, else by all of the row: of several that are equal one is as good as the other. */
function conditionFor({ shape, values, whole }: NonNullable<ReadRow['before']>): string {
  if (shape.key !== null)
    return shape.key
      .map(({ index, operator }) => `${shape.quoted[index]} ${operator} ${values[index]}`)
      .join(' AND ');
  return `ctid = (SELECT ctid FROM ONLY ${shape.name} AS aishell_row WHERE (aishell_row.*)::text = ${whole} LIMIT 1)`;
}
