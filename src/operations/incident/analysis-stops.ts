import { getResumed, getStopRecord, listStops } from '../../repository/emergency-archive.ts';
import { parseStopRecord, type StopRecord } from '../emergency/stop-record.ts';
import type { InstanceContext } from '../instance-context.ts';

/** A time in which writes were stopped. */
export interface StoppedWrites {
  readonly record: StopRecord;
  /** Null: they still are. */
  readonly resumedAt: string | null;
}

/** The stops of an instance's writes that began in a stretch of time, oldest first. @throws CORRUPT UNSUPPORTED */
export async function readStops(
  { repository, instance }: Pick<InstanceContext, 'repository' | 'instance'>,
  between: { readonly systemIdentifier: string; readonly fromMs: number; readonly toMs: number },
  signal: AbortSignal,
): Promise<StoppedWrites[]> {
  const stops: StoppedWrites[] = [];
  for (const { stop, sequence, isResumed } of await listStops(repository, instance, { signal })) {
    const value = await getStopRecord(repository, { instance, stop, sequence }, { signal });
    const record = parseStopRecord(value, `the repository (${stop})`);
    const at = Date.parse(record.stoppedAt);
    if (record.systemIdentifier !== between.systemIdentifier || at < between.fromMs || at > between.toMs)
      continue;
    const report = isResumed ? await getResumed(repository, { instance, stop }, { signal }) : null;
    stops.push({ record, resumedAt: resumedAtOf(report) });
  }
  return stops;
}

function resumedAtOf(report: unknown): string | null {
  if (typeof report !== 'object' || report === null || !('resumedAt' in report)) return null;
  return typeof report.resumedAt === 'string' ? report.resumedAt : null;
}
