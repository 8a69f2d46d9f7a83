import { readControlFile } from '../../engines/postgres/control-file.ts';
import { segmentName } from '../../engines/postgres/lsn.ts';
import type { LogFeeder } from './log-feeder.ts';

/**
 * For a recovery whose server is about to be started once more: it begins at its last restartpoint. Whether there was log that
 * it would have missed.
 */
export async function feedAgain(feeder: Pick<LogFeeder, 'again'>, dataDirectory: string): Promise<boolean> {
  const { checkpoint, walSegmentSize } = await readControlFile(dataDirectory);
  return await feeder.again(segmentName(checkpoint.timeline, checkpoint.redoLsn, walSegmentSize));
}
