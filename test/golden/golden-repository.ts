import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface GoldenFile {
  readonly size: number;
  readonly mode: number;
  readonly sha256: string;
}

/** What is in a golden repository; `expected.json` beside it says so, written when it was made. */
export interface Golden {
  /** Of the repository. */
  readonly path: string;
  readonly repositoryId: string;
  readonly instance: string;
  /** A path, and what it holds. */
  readonly keyFile: string;
  readonly key: string;
  readonly passphrase: string;
  readonly backups: readonly {
    readonly id: string;
    readonly packs: number;
    readonly directories: Readonly<Record<string, { readonly mode: number }>>;
    readonly files: Readonly<Record<string, GoldenFile>>;
    readonly config: Readonly<Record<string, GoldenFile & { readonly source: string }>>;
    readonly log: Readonly<Record<string, GoldenFile>>;
  }[];
}

/** The golden repository of a format version. Nothing may be written to it: tests that need to do so copy it. */
export function goldenRepository(format: number): Golden {
  const directory = fileURLToPath(new URL(`./format-${format}`, import.meta.url));
  const { keyFile, ...facts } = JSON.parse(readFileSync(join(directory, 'expected.json'), 'utf8'));
  return {
    ...facts,
    path: join(directory, 'repository'),
    keyFile: join(directory, keyFile),
    key: readFileSync(join(directory, keyFile), 'utf8'),
  };
}
