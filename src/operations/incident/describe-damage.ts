import { formatCount } from '../../base/sizes.ts';
import type { Incident, IncidentTable } from './incident.ts';

/** What was done to each table, the worst first: `DELETE removed 3,214,567 rows of shop: public.users`. */
export function describeDamage({ tables }: Pick<Incident, 'tables'>): string[] {
  return tables.map(describeOne);
}

/** `shop: public.users`. */
export function nameOfTable({ database, schema, table, act }: IncidentTable): string {
  if (act === 'drop' && schema === null && database === table) return `database ${table}`;
  return `${database}: ${schema === null ? table : `${schema}.${table}`}`;
}

function describeOne(table: IncidentTable): string {
  const name = nameOfTable(table);
  const rows = table.rows === null ? 'rows' : `${formatCount(table.rows)} row${table.rows === 1 ? '' : 's'}`;
  switch (table.act) {
    case 'delete':
      return `DELETE removed ${rows} of ${name}`;
    case 'update':
      return `UPDATE overwrote ${rows} of ${name}`;
    case 'truncate':
      return `TRUNCATE emptied ${name}`;
    case 'drop':
      return `DROP removed ${name}`;
    case 'rate':
      return `${rows} of ${name} changed, far more than usual`;
  }
}

/** The share of a table's rows that was destroyed, from 0 to 1; null where that is not known. */
export function shareOf({ act, rows, rowsBefore }: IncidentTable): number | null {
  if (act === 'truncate' || act === 'drop') return 1;
  if (rows === null || rowsBefore === null || rowsBefore <= 0) return null;
  return Math.min(1, rows / rowsBefore);
}

const headlines = {
  delete: 'DELETE on',
  update: 'UPDATE of',
  truncate: 'TRUNCATE of',
  drop: 'DROP of',
  rate: 'Unusual changes of',
} as const;

/** `DELETE on shop: public.users`, for a heading. */
export function headlineOf({ tables }: Pick<Incident, 'tables'>): string {
  const [worst, ...others] = tables;
  if (worst === undefined) return 'Unknown change';
  const names = new Set(others.map(nameOfTable));
  names.delete(nameOfTable(worst));
  const more = names.size === 0 ? '' : ` and ${formatCount(names.size)} more`;
  return `${headlines[worst.act]} ${nameOfTable(worst)}${more}`;
}
