import { AppError } from '../../base/errors.ts';

/** A damaged or missing object, and what cannot be restored because of it. */
export interface VerifyProblem {
  readonly object: string;
  readonly message: string;
  readonly affects: string;
}

/** Whether an error says that an object is not as it was written; any other ends a verification. */
export function isDamage(error: unknown): error is AppError {
  return error instanceof AppError && ['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'].includes(error.code);
}
