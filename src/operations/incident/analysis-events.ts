import { listBackupIds, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { AnalysisEvent } from './analysis.ts';
import type { StoppedWrites } from './analysis-stops.ts';
import { headlineOf } from './describe-damage.ts';
import type { Incident, IncidentEvent } from './incident.ts';

/** Backups that began this long after the disaster belong to its story, until it was over. */
const STORY_MS = 24 * 3_600_000;

/** Everything that is on record about a disaster, in the order of time. */
export async function eventsOf(
  context: Pick<InstanceContext, 'repository' | 'instance'>,
  from: {
    readonly incident: Incident;
    readonly stops: readonly StoppedWrites[];
    /** When people were told, where the incident's own record does not say. */
    readonly told: readonly IncidentEvent[];
  },
  signal: AbortSignal,
): Promise<AnalysisEvent[]> {
  const { incident, stops, told } = from;
  const known = new Set(incident.events.map(({ event }) => event));
  const all: IncidentEvent[] = [
    ...beginningOf(incident),
    ...incident.events,
    ...stops.flatMap(stop => stopEvents(stop, known)),
    ...(known.has('alerted') ? [] : told),
    ...(known.has('backup') ? [] : await backupEvents(context, incident, signal)),
  ];
  const sorted = all.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const first = Date.parse(sorted[0]?.at ?? '');
  return sorted.map(({ at, event, text }) => ({
    ...{ at, event, text },
    sinceSeconds: (Date.parse(at) - first) / 1000,
  }));
}

/** What the server said of the statement, and when the log says it was over. */
function beginningOf({ culprit, transaction, events, tables }: Incident): IncidentEvent[] {
  const found: IncidentEvent[] = [];
  const { transactionStartedAt = null, queryStartedAt = null } = culprit ?? {};
  if (transactionStartedAt !== null && transactionStartedAt !== queryStartedAt)
    found.push({ at: transactionStartedAt, event: 'began', text: 'transaction began' });
  if (queryStartedAt !== null)
    found.push({ at: queryStartedAt, event: 'started', text: `${brief(culprit?.query ?? null)} started` });
  const isTold = events.some(({ event }) => event === transaction.outcome);
  if (transaction.endedAt !== null && transaction.outcome !== 'running' && !isTold) {
    const text = `${headlineOf({ tables })} ${transaction.outcome} (transaction ${transaction.xid})`;
    found.push({ at: transaction.endedAt, event: transaction.outcome, text });
  }
  return found;
}

const BRIEF_CHARACTERS = 80;

/** The statement on one line, cut. */
function brief(query: string | null): string {
  if (query === null) return 'its statement';
  const characters = [...query.replace(/\s+/g, ' ').trim()];
  const isLong = characters.length > BRIEF_CHARACTERS;
  return isLong ? `${characters.slice(0, BRIEF_CHARACTERS - 1).join('')}…` : characters.join('');
}

function stopEvents({ record, resumedAt }: StoppedWrites, known: ReadonlySet<string>): IncidentEvent[] {
  const { level, stoppedAt, by } = record;
  return [
    ...(known.has('writes stopped')
      ? []
      : [{ at: stoppedAt, event: 'writes stopped', text: `writes stopped (level ${level}) by ${by.user}` }]),
    ...(resumedAt === null ? [] : [{ at: resumedAt, event: 'writes resumed', text: 'writes resumed' }]),
  ];
}

async function backupEvents(
  { repository, instance }: Pick<InstanceContext, 'repository' | 'instance'>,
  incident: Incident,
  signal: AbortSignal,
): Promise<IncidentEvent[]> {
  const from = Date.parse(incident.transaction.endedAt ?? incident.detectedAt);
  const last = incident.recoveries?.at(-1)?.finishedAt;
  const to = last === undefined ? from + STORY_MS : Date.parse(last);
  const events: IncidentEvent[] = [];
  for (const id of (await listBackupIds(repository, instance, { signal })).reverse()) {
    const backup = (await openManifest(repository, { instance, id }, { signal }))?.backup;
    if (backup === undefined) continue;
    const at = Date.parse(backup.startTime);
    if (at < from) break;
    if (at <= to)
      events.push({ at: backup.startTime, event: 'backup', text: `${backup.type} backup ${id} started` });
  }
  return events;
}
