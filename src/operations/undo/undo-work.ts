import type { DroppedPartitions } from './dropped-partitions.ts';
import type { DroppedTable } from './dropped-tables.ts';
import type { UndoTarget } from './find-undo-target.ts';
import type { LiveSession } from './live-session.ts';
import type { RestartedSequence } from './restarted-sequences.ts';
import type { RowSource } from './row-source.ts';
import type { UndoClock } from './undo-clock.ts';
import type { WeighedTable } from './weigh-rows.ts';

/** What an undo works on, all of it known and nothing of it changed yet. */
export interface UndoWork {
  readonly instance: string;
  readonly target: UndoTarget;
  readonly live: LiveSession;
  readonly source: RowSource;
  readonly weighed: readonly WeighedTable[];
  readonly dropped: readonly DroppedTable[];
  readonly partitions: DroppedPartitions;
  readonly sequences: readonly RestartedSequence[];
  /** Names of tables that were not asked for. */
  readonly others: readonly string[];
  readonly clock: UndoClock;
}
