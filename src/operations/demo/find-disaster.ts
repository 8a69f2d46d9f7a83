import { AppError } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import type { TimelineReport } from '../timeline/timeline-report.ts';
import { type AishellCommand, runAishell } from './aishell-command.ts';
import type { Disaster } from './disaster.ts';

/** What the timeline says of the transaction that did it. */
export interface FoundDisaster {
  readonly xid: number;
  /** When it was committed, ISO 8601 in UTC with microseconds. */
  readonly time: string;
  readonly summary: string;
}

/**
 * Looks for the disaster as somebody would who only knows that users are gone: in the timeline.
 *
 * @throws VERIFICATION_FAILED when the timeline does not name it, with every row it deleted
 */
export async function findDisaster(
  command: AishellCommand,
  disaster: Disaster,
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<FoundDisaster> {
  const step = {
    id: 'demo-find',
    title: 'Found in the timeline',
    detail: (found: FoundDisaster) => `${found.summary}, transaction ${found.xid}, ${found.time}`,
  };
  return runStep(options.onEvent, step, async () => {
    const report = await runAishell(command, ['backup', 'timeline', '--table', 'users'], options);
    const { transactions } = report as unknown as TimelineReport;
    const found = transactions.findLast(
      ({ kind, tables }) =>
        kind === 'delete' &&
        tables.some(({ table, deleted }) => table === 'users' && deleted === disaster.usersDeleted),
    );
    if (found === undefined || found.time === null)
      throw new AppError(
        'VERIFICATION_FAILED',
        'the timeline does not name the transaction that deleted users',
      );
    return { xid: found.xid, time: found.time, summary: found.summary };
  });
}
