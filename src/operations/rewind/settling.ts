import type { ChangeMap, ForkChanges } from '../../engines/postgres/change-map.ts';
import { segmentStart } from '../../engines/postgres/lsn.ts';
import type { LogView } from '../log/log-view.ts';

/**
 * What was changed since a place at or before the last checkpoint before a target, to the end of the log. A page that it does not
 * name was the same at that checkpoint, is the same at the target and is the same now, hints included: a hint that is set in a
 * page whose last record is older than the checkpoint names the page too. So a rewind need not bring it back to replay the log
 * over it.
 *
 * @source storage/buffer/bufmgr.c, MarkBufferDirtyHint; access/transam/xloginsert.c, XLogSaveBufferForHint. pg_rewind takes the pages
 * since the last common checkpoint for the same reason
 */
export interface Settling {
  /** The start of a segment: the log before it is thinned. */
  readonly from: bigint;
  /** What not replaying all changes of a page spares, where copying it to a new file costs 1. */
  readonly spares: number;
  /** By {@link forkKey}: first references at or after `from`, for the target. */
  readonly pages: ReadonlyMap<string, ForkChanges>;
}

/** Of small changes; where each has an image of its page, less. */
export const SETTLED_SPARES = 3;

/**
 * From where on changes tell which pages are settled; null where nothing would be gained, or where they do not tell: after a
 * promotion, hints can be of who read on a standby.
 */
export function settlingFrom(
  log: {
    readonly view: Pick<LogView, 'segmentSize' | 'chain'>;
    /** Where the backup starts, and where the archived log, whole from there on, ends. */
    readonly startLsn: bigint;
    readonly archivedEnd: bigint;
    readonly targetLsn: bigint;
  },
  events: ChangeMap['events'],
): bigint | null {
  const { segmentSize, chain } = log.view;
  const checkpoint = events.findLast(event => event.kind === 'checkpoint' && event.endLsn <= log.targetLsn);
  if (checkpoint?.kind !== 'checkpoint') return null;
  const redo = segmentStart(checkpoint.checkpoint.redoLsn, segmentSize);
  const from = redo < log.archivedEnd ? redo : log.archivedEnd;
  if (from <= segmentStart(log.startLsn, segmentSize)) return null;
  return chain.some(step => step.begin > from) ? null : from;
}
