import { fileURLToPath } from 'node:url';

/** A path within this program's own package, from the sources as from dist/. */
export function programFile(path: string): string {
  const up = import.meta.url.endsWith('.ts') ? '../../' : '../';
  return fileURLToPath(new URL(`${up}${path}`, import.meta.url));
}
