import type { Incident } from '../incident/incident.ts';
import { readIncidents } from '../incident/incident-store.ts';
import type { InstanceContext } from '../instance-context.ts';

/**
 * The incident that the instance was recovered to before last, in place: what that recovery has lost is what somebody asks for
 * who names no target. Null when none is on record, or the recovery was taken back.
 */
export async function lastRecovered(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  signal: AbortSignal,
): Promise<Incident | null> {
  const recovered = (await readIncidents(context, { signal })).filter(
    ({ status, recoveries = [] }) => status === 'resolved' && recoveries.at(-1)?.mode === 'in-place',
  );
  const endOf = ({ recoveries = [] }: Incident): string => recoveries.at(-1)?.finishedAt ?? '';
  return recovered.sort((a, b) => (endOf(a) < endOf(b) ? -1 : 1)).at(-1) ?? null;
}
