import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import type { InstanceContext } from '../instance-context.ts';
import { readSummaries } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import type { LogRun } from './open-instance-log.ts';

/** Commit times are taken a moment before their records are written, and a transaction may have begun long before. */
const MARGIN_SECONDS = 60;
/** So few segments are read whole. */
const FEW_SEGMENTS = 16;

interface Seconds {
  readonly first: number;
  readonly last: number;
}

/**
 * The parts of the log in which transactions ended between two times (seconds since 1970), in whole segments. Found by
 * halves: of days of log a dozen summaries are read.
 */
export async function clipRuns(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  log: { readonly view: LogView; readonly runs: readonly LogRun[] },
  range: { readonly from: number; readonly to: number },
  signal: AbortSignal,
): Promise<LogRun[]> {
  const { view } = log;
  const starts = log.runs.flatMap(run => segmentsOf(run, view.segmentSize));
  if (starts.length <= FEW_SEGMENTS) return [...log.runs];
  const known = new Map<number, Promise<Seconds | null>>();
  const at = (index: number): Promise<Seconds | null> => {
    const seconds =
      known.get(index) ?? secondsAt(context, view, { lsn: starts[index]!, runs: log.runs }, signal);
    known.set(index, seconds);
    return seconds;
  };
  // The first segment, from `index` on, in which a transaction ended.
  const busy = async (
    index: number,
  ): Promise<{ readonly index: number; readonly seconds: Seconds } | null> => {
    for (let next = index; next < starts.length; next += 1) {
      const seconds = await at(next);
      if (seconds !== null) return { index: next, seconds };
    }
    return null;
  };
  const search = async (isBehind: (seconds: Seconds) => boolean): Promise<number> => {
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const found = await busy(middle);
      if (found === null || isBehind(found.seconds)) high = middle;
      else low = found.index + 1;
    }
    return low;
  };
  const first = await search(({ last }) => last >= range.from - MARGIN_SECONDS);
  const behind = await search(({ first: begin }) => begin > range.to + MARGIN_SECONDS);
  const from = starts[Math.max(0, first - 1)];
  const last = starts[Math.min(starts.length, behind + 1) - 1];
  if (from === undefined || last === undefined) return [];
  const to = nextSegment(last, view.segmentSize);
  return log.runs
    .map(run => ({ from: run.from > from ? run.from : from, to: run.to < to ? run.to : to }))
    .filter(run => run.from < run.to);
}

async function secondsAt(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  view: LogView,
  at: { readonly lsn: bigint; readonly runs: readonly LogRun[] },
  signal: AbortSignal,
): Promise<Seconds | null> {
  const next = nextSegment(at.lsn, view.segmentSize);
  const end = at.runs.find(run => run.from <= at.lsn && at.lsn < run.to)?.to ?? next;
  const to = end < next ? end : next;
  for await (const { seconds } of readSummaries(context, view, { from: at.lsn, to }, { signal })) {
    const [first] = seconds;
    const last = seconds.at(-1);
    if (first !== undefined && last !== undefined) return { first: first.second, last: last.second };
  }
  return null;
}

function segmentsOf(run: LogRun, segmentSize: number): bigint[] {
  const starts: bigint[] = [];
  for (let lsn = segmentStart(run.from, segmentSize); lsn < run.to; lsn = nextSegment(lsn, segmentSize))
    starts.push(lsn);
  return starts;
}
