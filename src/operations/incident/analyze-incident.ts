import { randomBytes } from 'node:crypto';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { readIdentities } from '../../repository/identity.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import {
  type AskedTransaction,
  type FoundTransaction,
  findTransaction,
  findWorstTransaction,
} from '../timeline/find-transaction.ts';
import type { DowntimeCost, IncidentAnalysis, Measure } from './analysis.ts';
import { causeOf, unknownsOf } from './analysis-cause.ts';
import { eventsOf } from './analysis-events.ts';
import { impactOf } from './analysis-impact.ts';
import { readSigns, recommendationsFor } from './analysis-prevention.ts';
import { readStops, type StoppedWrites } from './analysis-stops.ts';
import { headlineOf } from './describe-damage.ts';
import type { Incident, IncidentEvent } from './incident.ts';
import { incidentFromLog } from './incident-from-log.ts';
import { readIncident, readIncidents } from './incident-store.ts';
import { isRateIncident } from './rate-incident.ts';

export interface AnalysisRequest {
  /** Null: the last incident on record or, without any, what is worst in the log of the last day. */
  readonly about: { readonly kind: 'incident'; readonly id: string } | AskedTransaction | null;
  /** Null: nobody has said what a minute costs. */
  readonly cost: DowntimeCost | null;
  /** Measures that others know of, beside those that the server shows. */
  readonly measures: readonly Measure[];
  /** When people were told of an incident. */
  told(incidentId: string): Promise<readonly IncidentEvent[]>;
}

/** How far back the log is looked at when nothing is on record. */
const LOOK_BACK_US = 24n * 3_600_000_000n;

/** What the report is about. */
interface Subject {
  readonly incident: Incident;
  readonly isRecorded: boolean;
  /** The same transaction in the archived log; null where that does not have it. */
  readonly logged: FoundTransaction | null;
}

/**
 * Reports a disaster from what is on record and in the log: what happened when, how it came to it, what it did, and what
 * keeps it from happening again. It changes nothing.
 *
 * @throws INCIDENT_NOT_FOUND LOG_NOT_FOUND TARGET_AMBIGUOUS CORRUPT
 */
export async function analyzeIncident(
  context: InstanceContext,
  request: AnalysisRequest,
  options: RunOptions,
): Promise<IncidentAnalysis> {
  const { signal } = options;
  const detail = ({ incident, isRecorded }: Subject): string =>
    isRecorded ? incident.id : `in the log: transaction ${incident.transaction.xid}`;
  const step = { id: 'incident', title: 'Incident found', detail };
  const subject = await runStep(options.onEvent, step, () => findSubject(context, request.about, options));
  const { incident, isRecorded, logged } = subject;
  const stops = await stopsOf(context, subject, signal);
  const where = { role: incident.culprit?.role ?? null, database: incident.tables[0]?.database ?? null };
  const signs = await readSigns(context, where, signal);
  const measures = [...signs.measures, ...request.measures];
  const told = isRecorded ? await request.told(incident.id) : [];
  const restore = logged?.transaction.restore ?? null;
  return {
    instance: context.instance,
    source: isRecorded ? 'incident' : 'log',
    incidentId: isRecorded ? incident.id : null,
    headline: headlineOf(incident),
    severity: isRecorded ? incident.severity : null,
    status: isRecorded ? incident.status : null,
    resolution: incident.resolution,
    rule: isRecorded ? incident.rule : null,
    at: incident.transaction.endedAt ?? incident.detectedAt,
    transaction: incident.transaction,
    atMostSeconds: logged?.transaction.atMostSeconds ?? null,
    timeline: await eventsOf(context, { incident, stops, told }, signal),
    culprit: incident.culprit,
    cause: causeOf(incident, signs),
    impact: impactOf(incident, { stops, cost: request.cost, now: new Date() }),
    recoveries: incident.recoveries ?? [],
    measures,
    recommendations: recommendationsFor(incident, { ...signs, measures, isRecorded, restore }),
    unknown: unknownsOf(incident, {
      isRecorded,
      isInLog: logged !== null,
      hasCost: request.cost !== null,
    }),
  };
}

async function findSubject(
  context: InstanceContext,
  about: AnalysisRequest['about'],
  options: RunOptions,
): Promise<Subject> {
  if (about?.kind === 'incident') {
    const incident = await readIncident(context, about.id, options);
    return { incident, isRecorded: true, logged: await inLog(context, incident, options) };
  }
  const recorded = await readIncidents(context, options);
  const last = recorded.at(-1);
  if (about === null && last !== undefined)
    return { incident: last, isRecorded: true, logged: await inLog(context, last, options) };
  const logged =
    about === null
      ? await findWorstTransaction(
          context,
          { fromUs: BigInt(Date.now()) * 1000n - LOOK_BACK_US, but: new Set() },
          options,
        )
      : await findTransaction(context, about, options);
  if (logged === null) {
    throw new AppError('INCIDENT_NOT_FOUND', `there is no incident of '${context.instance}' to report`, {
      hint: 'None is on record, and nothing stands out in the log of the last day. Name a transaction: --xid NUMBER, or --change "the delete on users".',
    });
  }
  const known = recorded.findLast(
    ({ transaction }) =>
      transaction.xid === logged.transaction.xid && transaction.endLsn === logged.transaction.commitLsn,
  );
  if (known !== undefined) return { incident: known, isRecorded: true, logged };
  const { instance, toolVersion } = context;
  const systemIdentifier = (await readIdentities(context.repository, instance, options)).at(-1);
  const owner = { instance, toolVersion, systemIdentifier: systemIdentifier?.systemIdentifier ?? '' };
  const noticed = { now: new Date(), random: randomBytes(3), when: 'for this report' };
  const incident = incidentFromLog(logged, owner, noticed);
  const events = incident.events.filter(({ event }) => event !== 'detected');
  return { incident: { ...incident, events }, isRecorded: false, logged };
}

/** The incident's transaction as the log has it. What the log does not hold is left out of the report. */
async function inLog(
  context: InstanceContext,
  incident: Incident,
  { signal }: RunOptions,
): Promise<FoundTransaction | null> {
  const { xid, timeline, endLsn, outcome } = incident.transaction;
  if (outcome === 'rolled back' || isRateIncident(incident)) return null;
  try {
    const found = await findTransaction(context, { kind: 'xid', xid }, { signal, timeline });
    return endLsn === null || found.transaction.commitLsn === endLsn ? found : null;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof AppError) return null;
    throw error;
  }
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 3_600_000;

/** Stops that can have been made for it: from just before its end to its recovery. */
async function stopsOf(
  context: InstanceContext,
  { incident }: Subject,
  signal: AbortSignal,
): Promise<StoppedWrites[]> {
  const { transaction, detectedAt, systemIdentifier, recoveries = [] } = incident;
  const from = Date.parse(transaction.endedAt ?? detectedAt);
  const last = recoveries.at(-1);
  const to = last === undefined ? from + DAY_MS : Date.parse(last.finishedAt);
  return await readStops(
    context,
    { systemIdentifier, fromMs: from - MINUTE_MS, toMs: Math.min(to, from + DAY_MS) },
    signal,
  );
}
