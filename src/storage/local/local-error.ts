import { AppError, messageOf, systemCode } from '../../base/errors.ts';

/** What a failed call of the operating system means for a storage, with the path in the message. */
export function localError(verb: string, path: string, error: unknown): AppError {
  const code = systemCode(error);
  const fail = (
    to: 'STORAGE_FULL' | 'STORAGE_DENIED' | 'STORAGE_UNREACHABLE',
    why: string,
    hint: string,
  ): AppError => new AppError(to, `unable to ${verb} '${path}': ${why}`, { hint, cause: error });
  switch (code) {
    case 'ENOSPC':
      return fail(
        'STORAGE_FULL',
        'no space is left',
        'Free space on its file system, then run the same command again.',
      );
    case 'EDQUOT':
      return fail(
        'STORAGE_FULL',
        'the disk quota is used up',
        'Raise the quota or free space, then run the same command again.',
      );
    case 'EROFS':
      return fail(
        'STORAGE_DENIED',
        'the file system is read-only',
        'Mount it writable, or choose another location.',
      );
    case 'EACCES':
    case 'EPERM':
      return fail(
        'STORAGE_DENIED',
        'permission denied',
        `${whoRuns()} needs access to it: run aishell as its owner (often postgres), or change the owner.`,
      );
    case 'EMFILE':
    case 'ENFILE':
      return fail(
        'STORAGE_UNREACHABLE',
        'too many files are open',
        'Raise the limit of open files (ulimit -n), or use fewer workers.',
      );
    case 'ENOTDIR':
    case 'ELOOP':
    case 'EISDIR':
      return somethingElse(verb, path, error);
    case 'EXDEV':
      return fail(
        'STORAGE_UNREACHABLE',
        'it is on another file system than the rest of the repository',
        'Keep one repository on one file system.',
      );
    default:
      return fail(
        'STORAGE_UNREACHABLE',
        messageOf(error),
        'Check the disk or the mount, and the system log (dmesg).',
      );
  }
}

/** Where an object or a directory belongs, there is a symbolic link, a device, … */
export function somethingElse(verb: string, path: string, cause?: unknown): AppError {
  return new AppError('STORAGE_UNREACHABLE', `unable to ${verb} '${path}': something else is in its place`, {
    hint: 'A repository holds plain files and directories only, and no symbolic links are followed: move it away.',
    cause,
  });
}

function whoRuns(): string {
  const uid = process.geteuid?.();
  return uid === undefined ? 'This user' : `The user with uid ${uid}`;
}
