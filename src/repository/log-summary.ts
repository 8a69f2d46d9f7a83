import { AppError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import type { LogOwner } from './log-archive.ts';
import type { Repository } from './repository.ts';

/** Stores the summary of the log segment `name`; one that is there already is left. */
export async function putLogSummary(
  repository: Repository,
  summary: LogOwner & { readonly name: string; readonly bytes: Uint8Array },
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  throw new AppError('BUG', `not built yet: ${repository.id} ${summary.name} ${String(options)}`);
}

/** The stored summary of a segment; null when there is none. @throws CORRUPT UNSUPPORTED KEY_WRONG */
export async function getLogSummary(
  repository: Repository,
  segment: LogOwner & { readonly name: string },
  options: CallOptions = {},
): Promise<Uint8Array | null> {
  throw new AppError('BUG', `not built yet: ${repository.id} ${segment.name} ${String(options)}`);
}
