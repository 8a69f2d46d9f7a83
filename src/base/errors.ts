import { type ErrorCode, exitCodes } from './codes.ts';

export interface ErrorOptions {
  /** One sentence: the next command, or the likely cause. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for `--json`, never secrets. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An operating error: something outside this program, or its input, is not as it must be. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.hint = options.hint;
    this.details = options.details;
  }

  get exitCode(): number {
    return exitCodes[this.code];
  }
}

/** Thrown where the program itself is wrong. */
export class BugError extends Error {
  constructor(message: string) {
    super(`${message} (this is a mistake in aishell, please report it)`);
    this.name = 'BugError';
  }
}

/** Fails as a bug when what must hold does not. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}

/** The operating system's code of an error (`ENOENT`, …), or '' when it has none. */
export function systemCode(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An error as it crosses a thread boundary or goes into `--json`. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Turns anything thrown into a record; what is not an operating error is a bug, a cancelled run stays cancelled. */
export function toErrorRecord(error: unknown): ErrorRecord {
  if (error instanceof AppError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(error.details === undefined ? {} : { details: error.details }),
    };
  }
  if (error instanceof Error && error.name === 'AbortError')
    return { code: 'CANCELLED', message: 'cancelled' };
  return {
    code: 'BUG',
    message: messageOf(error),
    details: { stack: error instanceof Error ? error.stack : undefined },
  };
}

/** The inverse of {@link toErrorRecord}. */
export function fromErrorRecord(record: ErrorRecord): AppError {
  return new AppError(record.code, record.message, {
    ...(record.hint === undefined ? {} : { hint: record.hint }),
    ...(record.details === undefined ? {} : { details: record.details }),
  });
}

/** What a failed file operation means: disk full, no permission, or another failure, with the path in the message. */
export function fileError(verb: string, path: string, error: unknown): AppError {
  const code = systemCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new AppError('DISK_FULL', `unable to ${verb} '${path}': the disk is full`, {
      hint: 'Free space on that file system, then run the same command again.',
      cause: error,
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new AppError('FILE_FAILED', `unable to ${verb} '${path}': permission denied`, {
      hint: 'Run aishell as the operating system user that owns the data directory (often postgres), or as root.',
      cause: error,
    });
  }
  return new AppError('FILE_FAILED', `unable to ${verb} '${path}': ${messageOf(error)}`, { cause: error });
}
