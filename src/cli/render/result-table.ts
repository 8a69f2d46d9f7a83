import Table from 'cli-table3';
import type { Column, TextRow } from '../../engines/postgres/sql/stream-statement.ts';
import { printable, truncate } from './page.ts';
import type { Style } from './style.ts';

/** Borders and spaces around each cell. */
const CELL_FRAME = 3;
const NARROWEST = 12;

/** Types whose values stand right in their column. @source PostgreSQL, src/include/catalog/pg_type.dat */
const numericTypes = new Set([20, 21, 23, 26, 28, 700, 701, 790, 1700, 5069]);

/** A result as a table within a width; where its columns do not fit beside each other, below each other. */
export function drawResult(
  columns: readonly Column[],
  rows: readonly TextRow[],
  { style, width }: { readonly style: Style; readonly width: number },
): readonly string[] {
  if (columns.length === 0) return [];
  const heads = columns.map(({ name }) => onOneLine(name));
  const cells = rows.map(row => row.map(value => (value === null ? null : onOneLine(value))));
  const natural = heads.map((head, index) =>
    Math.max(lengthOf(head), ...cells.map(row => lengthOf(row[index] ?? 'NULL'))),
  );
  const widths = fitWidths(natural, width - 1 - CELL_FRAME * columns.length);
  if (widths === null) return drawRecords(heads, cells, { style, width });
  const table = new Table({
    head: heads.map((head, index) => style.title(truncate(head, widths[index] ?? NARROWEST))),
    colAligns: columns.map(({ typeOid }) => (numericTypes.has(typeOid) ? 'right' : 'left')),
    style: { head: [], border: [], compact: true },
  });
  table.push(
    ...cells.map(row => row.map((value, index) => cellText(value, widths[index] ?? NARROWEST, style))),
  );
  return table.toString().split('\n');
}

function cellText(value: string | null, width: number, style: Style): string {
  return value === null ? style.dim('NULL') : truncate(value, width);
}

/** The widest columns give way first; null when they would become unreadable. */
function fitWidths(natural: readonly number[], room: number): readonly number[] | null {
  const widths = [...natural];
  let over = widths.reduce((sum, each) => sum + each, 0) - room;
  while (over > 0) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) return null;
    const next = Math.max(NARROWEST, ...widths.filter(each => each < widest));
    const at = widths.flatMap((each, index) => (each === widest ? [index] : []));
    const step = Math.max(1, Math.min(widest - next, Math.ceil(over / at.length)));
    for (const index of at) widths[index] = widest - step;
    over -= step * at.length;
  }
  return widths;
}

/** One line for each value, as psql does with `\x`. */
function drawRecords(
  heads: readonly string[],
  rows: readonly (readonly (string | null)[])[],
  { style, width }: { readonly style: Style; readonly width: number },
): readonly string[] {
  const widest = Math.max(...heads.map(lengthOf));
  return rows.flatMap((row, number) => [
    style.dim(`─ row ${number + 1} ─`),
    ...heads.map((head, index) => {
      const label = `${style.title(head)}${' '.repeat(widest - lengthOf(head))}`;
      return `${label} │ ${cellText(row[index] ?? null, Math.max(NARROWEST, width - widest - 3), style)}`;
    }),
  ]);
}

function onOneLine(text: string): string {
  return printable(text.replace(/\r?\n/g, '↵').replace(/\t/g, ' '));
}

function lengthOf(text: string): number {
  return [...text].length;
}
