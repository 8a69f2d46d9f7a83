import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import { formatLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import { tryRecordCatalog } from '../catalog/record-catalog.ts';
import { nameRelations } from '../catalog/relation-names.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { type LogActivity, readActivity } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import { clipRuns } from './clip-runs.ts';
import { type InstanceLog, type LogRun, openInstanceLog } from './open-instance-log.ts';
import { type ReadRuns, reportOf, type TimelineReport, type TimelineRequest } from './timeline-report.ts';

const DAY_US = 86_400_000_000n;
const US = 1_000_000n;
/** Beside those asked for: smaller ones can be most of a small table. */
const SEEN_ROWS = 100;

/** Reads what the archived log of an instance holds, from its summaries. */
export async function readTimeline(
  context: InstanceContext,
  request: TimelineRequest,
  options: RunOptions,
): Promise<TimelineReport> {
  const { onEvent, signal } = options;
  const log = await runStep(onEvent, { id: 'find-log', title: 'Log found', detail: describeLog }, () =>
    openInstanceLog(context, request.timeline, signal),
  );
  await recordNames(context, options);
  const { view } = log;
  const names = await nameRelations(context, view, { signal });
  const toUs = request.toUs ?? BigInt(Date.now()) * 1000n;
  const fromUs = request.fromUs ?? toUs - DAY_US;
  const seconds = { from: Number(fromUs / US), to: Number(toUs / US) };
  const read = await runStep(
    onEvent,
    { id: 'read-log', title: 'Log read', detail: done => counted(done.segments, 'segment') },
    async () => {
      const runs = await clipRuns(context, log, seconds, signal);
      return readRuns(context, { view, runs, minimumRows: request.minimumRows }, options);
    },
  );
  return reportOf({ context, request, log, read, names, fromUs, toUs }, signal);
}

/** A server that answers says what its tables are called now; where it does not, what was recorded must do. */
async function recordNames(context: InstanceContext, { signal }: RunOptions): Promise<void> {
  await tryRecordCatalog(context, { signal, onEvent: () => undefined });
}

async function readRuns(
  context: InstanceContext,
  log: { readonly view: LogView; readonly runs: readonly LogRun[]; readonly minimumRows: number },
  { onEvent, signal }: RunOptions,
): Promise<ReadRuns> {
  const { view, runs } = log;
  const sizeOf = (run: LogRun): number =>
    Math.ceil(Number(run.to - segmentStart(run.from, view.segmentSize)) / view.segmentSize);
  const segments = runs.reduce((sum, run) => sum + sizeOf(run), 0);
  let done = 0;
  const activities: LogActivity[] = [];
  for (const run of runs) {
    const activity = await readActivity(context, view, run, {
      signal,
      minimumRows: Math.min(SEEN_ROWS, log.minimumRows),
      onSummary: () => {
        done += 1;
        onEvent({
          type: 'progress',
          step: 'read-log',
          doneBytes: 0,
          totalBytes: 0,
          done,
          total: segments,
          unit: 'segments',
        });
      },
    });
    activities.push(activity);
  }
  return { runs, activities, segments };
}

function describeLog({ view, runs }: InstanceLog): string {
  const from = runs[0]?.from ?? 0n;
  const to = runs.at(-1)?.to ?? 0n;
  const gaps = runs.length === 1 ? '' : `, ${runs.length - 1} gap${runs.length === 2 ? '' : 's'}`;
  return `timeline ${view.timeline}, ${formatLsn(from)} to ${formatLsn(to)}${gaps}`;
}
