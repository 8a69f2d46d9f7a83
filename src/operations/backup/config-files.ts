import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import type { ServerFacts } from '../../engines/postgres/server-facts.ts';
import type { SourceFile } from './file-assembler.ts';

const CONFIG_BYTES = 16 * 1024 * 1024;

/**
 * The configuration files that lie outside the data directory (Debian: /etc/postgresql), under the names they have
 * beside postgresql.conf; those that it includes as well.
 */
export async function readConfigFiles(
  facts: Pick<ServerFacts, 'dataDirectory' | 'configFile' | 'hbaFile' | 'identFile' | 'configurationFiles'>,
): Promise<SourceFile[]> {
  const home = dirname(facts.configFile);
  const files = new Map<string, SourceFile>();
  for (const source of new Set([
    facts.configFile,
    facts.hbaFile,
    facts.identFile,
    ...facts.configurationFiles,
  ])) {
    if (await isAmongFiles(facts.dataDirectory, source)) continue;
    const content = await readIfThere(source);
    if (content === null) continue;
    // A file from elsewhere keeps its own name; two of one name would be one too many, and the first is the main one.
    const path =
      source === facts.configFile
        ? 'postgresql.conf'
        : source === facts.hbaFile
          ? 'pg_hba.conf'
          : source === facts.identFile
            ? 'pg_ident.conf'
            : isInside(home, source)
              ? relative(home, source)
              : `included/${basename(source)}`;
    if (!files.has(path))
      files.set(path, {
        path,
        source: content,
        sizeBytes: content.length,
        mode: 0o600,
        firstBlock: null,
        configSource: source,
      });
  }
  return [...files.values()];
}

/** Whether a backup of the data directory has it as one of its files: not, where a directory on the way is a link. */
async function isAmongFiles(dataDirectory: string, source: string): Promise<boolean> {
  if (!isInside(dataDirectory, source)) return false;
  const real = async (path: string): Promise<string> => await realpath(path).catch(() => path);
  return isInside(await real(dataDirectory), join(await real(dirname(source)), basename(source)));
}

/** Whether `path` lies below `directory`. */
export function isInside(directory: string, path: string): boolean {
  const way = relative(directory, path);
  return way !== '' && !way.startsWith('..') && !isAbsolute(way);
}

async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    const content = await readFile(path);
    if (content.length > CONFIG_BYTES)
      throw new AppError(
        'FILE_FAILED',
        `unable to keep '${path}': it is no configuration file, it is too large`,
      );
    return content;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error instanceof AppError ? error : fileError('read', path, error);
  }
}
