import { randomBytes } from 'node:crypto';
import { AppError } from '../../base/errors.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import { describeDamage } from '../incident/describe-damage.ts';
import type { Incident, IncidentEvent } from '../incident/incident.ts';
import { incidentFromLog, isFromLog } from '../incident/incident-from-log.ts';
import { readIncidents, saveIncident, updateIncident } from '../incident/incident-store.ts';
import { isRateIncident } from '../incident/rate-incident.ts';
import type { InstanceContext } from '../instance-context.ts';
import {
  type FoundTransaction,
  findTransaction,
  findWorstTransaction,
} from '../timeline/find-transaction.ts';
import type { TimelineTransaction } from '../timeline/timeline-report.ts';
import type { RecommendedTarget, StopAction } from './stop-report.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';

/** How far back the log is looked at for a disaster that nobody noticed. */
const LOOK_BACK_MS = 3_600_000;
/** One that was noticed longer ago is hardly what writes are stopped for. */
const OPEN_FOR_MS = 24 * LOOK_BACK_MS;

/** What writes were stopped for, as far as it is known. */
export interface StopCause {
  readonly incident: Incident | null;
  /** Of the log: where a recovery would best go to. Null when the log shows no disaster, or was not looked at. */
  readonly found: TimelineTransaction | null;
}

/**
 * The disaster that writes were stopped for: the open incident that was noticed in the last hour as it happened, unless it is
 * about a mere rate; else what the log of that hour shows beside what is resolved, which becomes an incident if it is none yet;
 * else the last open one of the day.
 */
export async function findCause(run: StopRun, context: InstanceContext, hasLog: boolean): Promise<StopCause> {
  const { open, resolved } = await incidentsOf(run, context);
  const hourAgo = Date.parse(run.record.stoppedAt) - LOOK_BACK_MS;
  const noticed = open.findLast(
    each => !isFromLog(each) && !isRateIncident(each) && Date.parse(each.detectedAt) >= hourAgo,
  );
  if (noticed !== undefined)
    return { incident: noticed, found: hasLog ? await inLog(run, context, noticed) : null };
  const found = hasLog
    ? await findWorstTransaction(context, { fromUs: BigInt(hourAgo) * 1000n, but: resolved }, run.options)
    : null;
  if (found === null) {
    const last = open.at(-1) ?? null;
    return { incident: last, found: last && hasLog ? await inLog(run, context, last) : null };
  }
  const { xid, commitLsn } = found.transaction;
  const known = open.findLast(
    ({ transaction }) => transaction.xid === xid && transaction.endLsn === commitLsn,
  );
  return { incident: known ?? (await logIncident(run, context, found)), found: found.transaction };
}

async function logIncident(
  run: StopRun,
  context: InstanceContext,
  found: FoundTransaction,
): Promise<Incident> {
  const { instance, toolVersion } = context;
  const { systemIdentifier } = run.record;
  const noticed = { now: new Date(), random: randomBytes(3), when: 'when writes were stopped' };
  const incident = incidentFromLog(found, { instance, systemIdentifier, toolVersion }, noticed);
  const step = { id: 'incident', title: 'Incident logged', detail: () => incident.id };
  await runEmergencyStep(run, step, () => saveIncident(context, incident));
  return incident;
}

/** The incident's transaction as the archived log has it; null where it does not. */
async function inLog(
  run: StopRun,
  context: InstanceContext,
  incident: Incident,
): Promise<TimelineTransaction | null> {
  const { outcome, xid } = incident.transaction;
  if (outcome === 'rolled back' || isRateIncident(incident)) return null;
  try {
    const asked = { kind: 'xid', xid } as const;
    return (await findTransaction(context, asked, run.options)).transaction;
  } catch (error) {
    // It was still running, and the stop has undone it; or it is in no log that is archived.
    if (error instanceof AppError && error.code === 'LOG_NOT_FOUND') return null;
    throw error;
  }
}

/** Where a recovery would best go to; null where nothing was committed. */
export function recommendedFor({ incident, found }: StopCause): RecommendedTarget | null {
  if (found !== null)
    return { xid: found.xid, did: found.summary, committedAt: found.time, command: found.restore };
  if (incident?.transaction.outcome !== 'committed' || isRateIncident(incident)) return null;
  const { xid, endedAt } = incident.transaction;
  const command = shellCommand(['aishell', 'backup', 'restore', '--before-incident', incident.id]);
  return { xid, did: describeDamage(incident).join('; '), committedAt: endedAt, command };
}

/** Of this system and the last day: those that are open, oldest first, and where transactions of the resolved ones end. */
async function incidentsOf(
  run: StopRun,
  context: InstanceContext,
): Promise<{ readonly open: readonly Incident[]; readonly resolved: ReadonlySet<string> }> {
  const since = Date.parse(run.record.stoppedAt) - OPEN_FOR_MS;
  const own = (await readIncidents(context)).filter(
    each => each.systemIdentifier === run.record.systemIdentifier && Date.parse(each.detectedAt) >= since,
  );
  return {
    open: own.filter(({ status }) => status === 'open'),
    resolved: new Set(
      own.flatMap(({ status, transaction }) => (status === 'resolved' ? (transaction.endLsn ?? []) : [])),
    ),
  };
}

/** Adds to an incident what the stop did. What is there already, from an earlier run, is not added twice. */
export async function addStopEvents(run: StopRun, context: InstanceContext, id: string): Promise<Incident> {
  const added = run.actions.filter(({ step }) => !unheard.has(step)).map(action => eventOf(run, action));
  return await updateIncident(context, id, known => {
    const keys = new Set(known.events.map(each => `${each.at} ${each.text}`));
    const news = added.filter(each => !keys.has(`${each.at} ${each.text}`));
    return { ...known, events: [...known.events, ...news] };
  });
}

/** Steps after which nobody writes any more, by the level. */
const stoppingStep = { soft: 'terminate', hard: 'terminate', strict: 'start-server' } as const;
/** What an incident's record says otherwise, or nobody needs there. */
const unheard = new Set(['record', 'incident']);
const eventNames: Readonly<Record<string, string>> = { archive: 'archived', notify: 'alerted' };

function eventOf(run: StopRun, { step, text, at }: StopAction): IncidentEvent {
  const { level } = run.record;
  if (step === stoppingStep[level]) return { at, event: 'writes stopped', text: `${text} (level ${level})` };
  return { at, event: eventNames[step] ?? step, text };
}
