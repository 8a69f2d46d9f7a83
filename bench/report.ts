import { arch, cpus, release, totalmem } from 'node:os';
import { formatBytes, MIB } from '../src/base/sizes.ts';
import { type Measurement, median } from './measure.ts';

export interface Row {
  readonly name: string;
  readonly rounds: readonly Measurement[];
  /** null where nothing is kept. */
  readonly storedBytes: number | null;
}

/** A promise of the project, measured. */
export interface Target {
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  readonly kind: 'at most' | 'at least';
  readonly unit: '' | ' ms' | ' MiB';
}

export function medianWallMs(row: Row): number {
  return median(row.rounds.map(round => round.wallMs));
}

function medianCpuMs(row: Row): number | null {
  const known = row.rounds.map(round => round.cpuMs).filter(ms => ms !== null);
  return known.length === 0 ? null : median(known);
}

/** The peak is a promise that must always hold: the worst round counts. */
export function worstPeakBytes(row: Row): number | null {
  const known = row.rounds.map(round => round.peakMemoryBytes).filter(bytes => bytes !== null);
  return known.length === 0 ? null : Math.max(...known);
}

/** The medians as a table in Markdown, each with its rounds; ratios against `inputBytes` where something is stored. */
export function tableLines(rows: readonly Row[], inputBytes: number): string[] {
  const cells = [['', 'wall', 'rounds', 'speed', 'CPU', 'peak memory', 'stored', 'ratio']];
  for (const row of rows) {
    const [wallMs, cpuMs, peak] = [medianWallMs(row), medianCpuMs(row), worstPeakBytes(row)];
    cells.push([
      row.name,
      seconds(wallMs),
      row.rounds.map(round => seconds(round.wallMs)).join(', '),
      `${(inputBytes / 1000 / wallMs).toFixed(0)} MB/s`,
      cpuMs === null ? '' : seconds(cpuMs),
      peak === null ? '' : `${(peak / MIB).toFixed(0)} MiB`,
      row.storedBytes === null ? '' : formatBytes(row.storedBytes),
      row.storedBytes === null ? '' : (inputBytes / row.storedBytes).toFixed(2),
    ]);
  }
  return markdown(cells);
}

export function targetLines(targets: readonly Target[]): string[] {
  const cells = [['', 'measured', 'target', '']];
  for (const { what, value, limit, kind, unit } of targets) {
    const reached = kind === 'at most' ? value <= limit : value >= limit;
    const digits = unit === '' ? 2 : 0;
    cells.push([
      what,
      `${value.toFixed(digits)}${unit}`,
      `${kind} ${limit}${unit}`,
      reached ? 'reached' : 'MISSED',
    ]);
  }
  return markdown(cells);
}

export function machineLine(): string {
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? arch();
  return `${processors.length} x ${model}, ${formatBytes(totalmem())} of memory, Linux ${release()}, Node ${process.version}`;
}

function seconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function markdown(cells: readonly (readonly string[])[]): string[] {
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(3, ...cells.map(row => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = cells;
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...body.map(line)];
}
