import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { AppError, messageOf, systemCode } from '../base/errors.ts';

const largestFileBytes = 1024 * 1024;

/**
 * Reads a configuration file's text. It waits for the disk: there is nothing else to do yet, and a thread pool that has to
 * wake up first takes longer.
 *
 * @throws CONFIG missing, unreadable, too large, or anybody can change it (it names commands that are run)
 */
export function readConfigText(path: string): string {
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      checkFile(path, file);
      return readFileSync(file, 'utf8');
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof AppError) throw error;
    const why =
      { ENOENT: 'there is no such file', EACCES: 'permission denied' }[systemCode(error)] ?? messageOf(error);
    throw new AppError('CONFIG', `unable to read the configuration '${path}': ${why}`, {
      hint:
        systemCode(error) === 'ENOENT'
          ? "Run 'aishell backup init' to create one, or name one with --config."
          : 'Run aishell as a user who can read it.',
      cause: error,
    });
  }
}

function checkFile(path: string, file: number): void {
  const found = fstatSync(file);
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
}
