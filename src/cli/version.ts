import { readFileSync } from 'node:fs';
import { programFile } from './program-files.ts';

declare const AISHELL_VERSION: string | undefined;

/** The version of this program: put in by scripts/build.ts, read from package.json when run from the sources. */
export function programVersion(): string {
  if (typeof AISHELL_VERSION === 'string') return AISHELL_VERSION;
  const manifest: { version: string } = JSON.parse(readFileSync(programFile('package.json'), 'utf8'));
  return manifest.version;
}
