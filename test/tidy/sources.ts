import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

export const checkout = join(import.meta.dirname, '../..');

export interface Source {
  /** Relative to the checkout, with `/`. */
  readonly path: string;
  readonly text: string;
}

/** TypeScript files below these folders of the checkout that exist, without those that only carry bytes. */
export function readSources(...folders: readonly string[]): Source[] {
  return folders.flatMap(folder =>
    listFiles(folder)
      .filter(path => path.endsWith('.ts') && !path.endsWith('.base64.ts'))
      .map(path => ({ path, text: readCheckout(path) })),
  );
}

/** Paths of all files below a folder of the checkout; none when it does not exist. */
export function listFiles(folder: string): string[] {
  try {
    return readdirSync(join(checkout, folder), { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => posix.relative(checkout, posix.join(entry.parentPath, entry.name)));
  } catch {
    return [];
  }
}

export function readCheckout(path: string): string {
  return readFileSync(join(checkout, path), 'utf8');
}

/** What a source imports: values, types and re-exports, static and dynamic. */
export function importsOf(text: string): string[] {
  const code = text.replace(/^\s*\/\*[\s\S]*?\*\//gm, '').replace(/^\s*\/\/.*$/gm, '');
  const written = /(?:^|;)\s*(?:import|export)\b(?:[^'";]*?\bfrom)?\s*['"]([^'"]+)['"]/gm;
  const called = /\bimport\(\s*['"]([^'"]+)['"]/g;
  return [...code.matchAll(written), ...code.matchAll(called)].map(match => match[1] ?? '');
}

/** The path of a relative import, relative to the checkout; null for a package. */
export function resolveImport(from: string, specifier: string): string | null {
  return specifier.startsWith('.') ? posix.join(posix.dirname(from), specifier) : null;
}

/** The rows of the Markdown tables whose head starts with this cell, each as its cells. */
export function readTables(markdown: string, firstHead: string): string[][] {
  const rows: string[][] = [];
  let inside = false;
  for (const line of markdown.split('\n')) {
    const cells = line.startsWith('|')
      ? line
          .split('|')
          .slice(1, -1)
          .map(cell => cell.trim())
      : null;
    if (cells === null) inside = false;
    else if (cells[0] === firstHead) inside = true;
    else if (inside && !/^-+$/.test(cells[0] ?? '')) rows.push(cells);
  }
  return rows;
}
