import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import type { Style } from './style.ts';
import { wrapWords } from './wrap.ts';

/** A space that no cell holds: cells are printable. */
const GLUE = '\u0000';

/**
 * The tutorial's table: a line below the head, none between rows. Where it is wider than the terminal, each row is a block
 * instead: its first cell, and below it the others with their names.
 *
 * @param columns of the terminal; null where there is none
 */
export function drawTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  { style, columns }: { readonly style: Style; readonly columns: number | null },
): readonly string[] {
  const table = new Table({ head: [...head], style: { head: [], border: [], compact: true } });
  table.push(...rows.map(row => [...row]));
  const lines = table.toString().split('\n');
  const width = stripVTControlCharacters(lines[0] ?? '').length;
  if (columns === null || width <= columns) return lines;
  return rows.flatMap(row => [style.title(row[0] ?? ''), ...detailsOf(head, row, columns)]);
}

function detailsOf(head: readonly string[], row: readonly string[], columns: number): readonly string[] {
  const facts = row.slice(1).map((cell, index) => `${head[index + 1] ?? ''}: ${cell}`);
  // A fact stays on one line.
  const glued = facts.join(',\n').replaceAll(' ', GLUE).replaceAll('\n', ' ');
  return wrapWords(glued, columns - 2).map(line => `  ${line.replaceAll(GLUE, ' ')}`);
}
