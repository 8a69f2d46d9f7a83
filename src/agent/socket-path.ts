import { closeSync, existsSync, openSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../base/errors.ts';

/** What the kernel takes as the path of a socket. @source unix(7), sun_path */
const SOCKET_PATH_BYTES = 107;
/** The files that a process has open, by number. @source proc(5) */
const OPEN_FILES = '/proc/self/fd';

export interface SocketPath extends Disposable {
  /** Names the socket as long as this is not disposed of. */
  readonly path: string;
}

/**
 * A path for a socket that the kernel takes, however long the one that is wanted: the system shows the directory, once it
 * is open, under a short name too.
 *
 * @throws FILE_FAILED where it does not; a system code when the directory is not there
 */
export function socketPath(path: string): SocketPath {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES) return { path, [Symbol.dispose]: () => undefined };
  if (!existsSync(OPEN_FILES)) {
    throw new AppError('FILE_FAILED', `unable to use '${path}': the path is too long for a socket`, {
      hint: 'Set `agent.spool` to a directory with a shorter path.',
    });
  }
  const directory = openSync(dirname(path), 'r');
  return {
    path: join(OPEN_FILES, String(directory), basename(path)),
    [Symbol.dispose]: () => closeSync(directory),
  };
}
