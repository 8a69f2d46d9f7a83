import { counted, formatCount } from '../../base/sizes.ts';
import type { Incident, IncidentAct, IncidentTable } from './incident.ts';

const past: Readonly<Record<IncidentAct, string>> = {
  delete: 'deleted',
  update: 'updated',
  truncate: 'truncated',
  drop: 'dropped',
  rate: 'changed',
};

/** `public.users`, or what is known of it. */
export function tableName({ schema, table }: Pick<IncidentTable, 'schema' | 'table'>): string {
  return schema === null ? table : `${schema}.${table}`;
}

/** What a transaction did to one table: `3,200,000 rows of public.users deleted (100 %)`. */
export function describeLoss(table: IncidentTable): string {
  const { act, rows, rowsBefore } = table;
  const name = tableName(table);
  if (rows === null) {
    const about = rowsBefore === null ? '' : ` with about ${formatCount(rowsBefore)} rows`;
    return `${name}${about} ${past[act]}`;
  }
  const share = rowsBefore === null || rowsBefore <= 0 ? null : Math.min(1, rows / rowsBefore);
  const part = share === null ? '' : ` (${(share * 100).toFixed(share >= 0.1 ? 0 : 1)} %)`;
  return `${formatCount(rows)} rows of ${name} ${past[act]}${part}`;
}

/** The tables of an incident, what was lost most first. */
export function worstFirst(tables: readonly IncidentTable[]): IncidentTable[] {
  const weight = ({ rows, rowsBefore }: IncidentTable): number => rows ?? rowsBefore ?? 0;
  return [...tables].sort((a, b) => weight(b) - weight(a));
}

/** One sentence: what happened, and whether it is still happening. */
export function describeIncident({ tables, transaction }: Pick<Incident, 'tables' | 'transaction'>): string {
  const [worst, ...others] = worstFirst(tables);
  const what = worst === undefined ? 'data was changed' : describeLoss(worst);
  const more = others.length === 0 ? '' : ` and ${counted(others.length, 'more table')}`;
  const outcome = {
    running: ', not committed yet',
    committed: '',
    'rolled back': ', and rolled back: nothing is lost',
    prepared: ', prepared for a commit in two phases',
  }[transaction.outcome];
  return `${what}${more}${outcome}`;
}
