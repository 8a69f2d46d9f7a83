import { AppError } from '../../base/errors.ts';
import { fileKey } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { WantedPages } from '../side/select-files.ts';
import type { DestroyedByTransaction } from './find-destruction.ts';
import type { UndoTarget } from './find-undo-target.ts';
import type { LiveSession } from './live-session.ts';
import { positionsOf } from './match-tables.ts';
import { openHeldSnapshot, type RowSource } from './row-source.ts';
import { openSideInstance } from './side-instance.ts';
import type { UndoOptions, UndoRequest } from './undo-request.ts';

/**
 * Opens where the rows come from: a snapshot that is held since before they were destroyed, where there is one and nothing
 * was lost that a snapshot does not keep; else a backup.
 *
 * @throws UNDO_REFUSED when the one that was asked for cannot serve; and as openSideInstance
 */
export async function openSource(
  context: InstanceContext,
  work: {
    readonly target: UndoTarget;
    readonly destruction: DestroyedByTransaction;
    readonly request: UndoRequest;
    readonly live: LiveSession;
  },
  options: UndoOptions,
): Promise<RowSource> {
  const { target, destruction, request } = work;
  const { signal, onEvent } = options;
  const whyNot: string[] = [];
  if (request.from !== 'backup') {
    const source = await openSnapshot(context, work, { signal, onGone: why => void whyNot.push(why) });
    if (source !== null) return source;
    const why = whyNot.join(', ');
    if (request.from === 'snapshot') {
      throw new AppError(
        'UNDO_REFUSED',
        `unable to undo transaction ${target.transaction.xid} from a held snapshot: ${why}`,
        { hint: 'Nothing was changed. `--from backup` takes the rows from a backup.' },
      );
    }
    if (target.incident?.guard.snapshot != null) {
      const message = `the held snapshot cannot be used: ${why}; the rows come from a backup`;
      onEvent({ type: 'note', level: 'warning', message });
    }
  }
  const { xid, lsn } = target.transaction;
  const { database } = destruction;
  return openSideInstance(
    context,
    { xid, lsn, database, pages: pagesOf(destruction), scratch: request.scratch },
    options,
  );
}

/** Where the rows lie, and all of the files that were removed. */
function pagesOf({ rows, removed }: DestroyedByTransaction): WantedPages[] {
  const whole = new Set(removed.map(fileKey));
  return [
    ...removed.map(relation => ({ relation, groups: null })),
    ...rows
      .filter(({ relation }) => !whole.has(fileKey(relation)))
      .map(each => ({
        relation: each.relation,
        groups: new Set([...positionsOf(each).values()].flatMap(positions => [...positions.groups])),
      })),
  ];
}

async function openSnapshot(
  context: InstanceContext,
  { target, destruction, live }: Pick<Parameters<typeof openSource>[1], 'target' | 'destruction' | 'live'>,
  options: Parameters<typeof openHeldSnapshot>[2],
): Promise<RowSource | null> {
  const snapshot = target.incident?.guard.snapshot ?? null;
  if (snapshot === null) options.onGone('none is held for this transaction');
  else if (destruction.acts.length > 0)
    options.onGone('tables were truncated, dropped or written anew, and their files are gone');
  else if (snapshot.database !== live.database)
    options.onGone(`it is one of database '${snapshot.database}', and the rows were in '${live.database}'`);
  else return openHeldSnapshot(context, snapshot, options);
  return null;
}
