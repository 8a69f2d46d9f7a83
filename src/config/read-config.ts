import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { AppError, messageOf, systemCode } from '../base/errors.ts';
import type { Config } from './config.ts';
import { type ConfigSearch, findConfigFile } from './find-config.ts';

const largestFileBytes = 1024 * 1024;

/**
 * Reads a configuration file's text.
 * @throws CONFIG missing, unreadable, too large, or anybody can change it (it names commands that are run)
 */
export async function readConfigText(path: string): Promise<string> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile())
      throw new AppError('CONFIG', `unable to read the configuration '${path}': it is not a file`);
    if ((found.mode & 0o002) !== 0) {
      throw new AppError(
        'CONFIG',
        `unable to trust the configuration '${path}': every user of this machine can change it`,
        {
          hint: `Run: chmod o-w '${path}'`,
        },
      );
    }
    if (found.size > largestFileBytes) {
      throw new AppError(
        'CONFIG',
        `unable to read the configuration '${path}': it is ${found.size} bytes long`,
      );
    }
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof AppError) throw error;
    const missing = systemCode(error) === 'ENOENT';
    const why =
      { ENOENT: 'there is no such file', EACCES: 'permission denied' }[systemCode(error)] ?? messageOf(error);
    throw new AppError('CONFIG', `unable to read the configuration '${path}': ${why}`, {
      hint: missing
        ? "Run 'aishell backup init' to create one, or name one with --config."
        : 'Run aishell as a user who can read it.',
      cause: error,
    });
  }
}

/** Finds, reads and checks the configuration. @throws CONFIG with every mistake and its line */
export async function readConfig(search: ConfigSearch): Promise<Config> {
  const path = await findConfigFile(search);
  const text = await readConfigText(path);
  const { parseConfig } = await import('./parse-config.ts');
  return parseConfig(text, path);
}
