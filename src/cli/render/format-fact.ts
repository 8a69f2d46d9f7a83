import { formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';
import { printable } from './page.ts';

/**
 * A fact's name and value for people, from its name in the code, whose end says the unit: `databaseSizeBytes: 45e9`
 * becomes `Database size: 45.0 GB`.
 */
export function formatFact(name: string, value: unknown): readonly [label: string, value: string | null] {
  const unit = /(BytesPerSecond|Bytes|Seconds|Ms)$/.exec(name)?.[1] ?? '';
  const words = name.slice(0, name.length - unit.length).replace(/([a-z0-9])([A-Z])/g, '$1 $2');
  const label = `${words.slice(0, 1).toUpperCase()}${words.slice(1).toLowerCase()}`;
  return [label, formatValue(value, unit)];
}

/** How many rows there are, by the planner's estimate: tables that were never analyzed count as empty. */
export function describeRows(estimated: number): string {
  return estimated > 0
    ? `about ${formatCount(estimated)}`
    : 'not known: no table was analyzed, or all are empty';
}

function formatValue(value: unknown, unit: string): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'number') return formatNumber(value, unit);
  if (Array.isArray(value)) return value.map(item => formatValue(item, unit) ?? '-').join(', ');
  if (typeof value === 'object') return JSON.stringify(value);
  return printable(String(value));
}

function formatNumber(value: number, unit: string): string {
  if (unit === 'Bytes') return formatBytes(value);
  if (unit === 'BytesPerSecond') return `${formatBytes(value)}/s`;
  if (unit === 'Seconds') return formatSeconds(value);
  if (unit === 'Ms') return formatSeconds(value / 1000);
  return Number.isInteger(value) ? formatCount(value) : value.toFixed(2);
}
