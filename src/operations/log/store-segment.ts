import type { CompressionLevel } from '../../repository/compression.ts';
import { type LogOwner, putLogFile } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import type { CallOptions } from '../../storage/storage.ts';

/** A file of the log to archive: a segment, a history file, a label of a backup. */
export interface FileToStore extends LogOwner {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly level: CompressionLevel;
}

/**
 * Archives a file of the log and, of a whole segment, its summary beside it. The file alone decides: a summary that
 * cannot be made or stored is made when it is read.
 *
 * @throws LOG_CONFLICT when there is one of this name with other bytes: nothing is overwritten
 */
export async function storeSegment(
  repository: Repository,
  file: FileToStore,
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  return putLogFile(repository, file, options);
}
