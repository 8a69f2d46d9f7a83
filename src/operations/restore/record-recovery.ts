import { AppError } from '../../base/errors.ts';
import type { OnEvent } from '../../base/events.ts';
import { formatCount, formatSeconds } from '../../base/sizes.ts';
import type { Incident, IncidentEvent, IncidentRecovery } from '../incident/incident.ts';
import { readIncidents, updateIncident } from '../incident/incident-store.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LossAccount } from '../timeline/account-of-loss.ts';
import type { RestoreReport } from './restore-report.ts';

/** When the moments of a restore were that matter to those who wait for it. */
interface Milestones {
  readonly startedAt: string;
  readonly serverStoppedAt: string | null;
  readonly onlineAt: string | null;
}

/** Notes these moments as the events pass by. */
export function watchMilestones(onEvent: OnEvent): { readonly onEvent: OnEvent; times(): Milestones } {
  const startedAt = new Date().toISOString();
  let serverStoppedAt: string | null = null;
  let onlineAt: string | null = null;
  return {
    onEvent(event) {
      const now = new Date().toISOString();
      if (event.type === 'step') {
        // From the first refused connection on.
        if (event.step === 'stop' && event.state === 'started') serverStoppedAt ??= now;
        if (event.step === 'start' && event.state === 'done') onlineAt = now;
      }
      onEvent(event);
    },
    times: () => ({ startedAt, serverStoppedAt, onlineAt }),
  };
}

/**
 * Puts a restore on the record of the incident that it goes back to before: the one that was named, or one whose transaction
 * is the first that was dropped. In place, the incident is resolved by it. What is recorded is not worth a restore: where
 * the repository does not take it, that is told.
 */
export async function recordRecovery(
  context: InstanceContext,
  report: RestoreReport,
  times: Milestones,
  onEvent: OnEvent,
): Promise<void> {
  await recordQuietly(onEvent, async () => {
    const undone = (await readIncidents(context)).filter(each => isUndone(each, report));
    for (const incident of undone)
      await updateIncident(context, incident.id, known => withRecovery(known, report, times));
  });
}

/** Puts on record that the state from before a rewind is back, and with it the disaster. */
export async function recordGoBack(
  context: InstanceContext,
  safetyPath: string,
  onEvent: OnEvent,
): Promise<void> {
  await recordQuietly(onEvent, async () => {
    const isOf = ({ recoveries = [] }: Incident): boolean =>
      recoveries.some(each => each.safetyPath === safetyPath);
    for (const { id } of (await readIncidents(context)).filter(isOf)) {
      const at = new Date().toISOString();
      const event = { at, event: 'went back', text: 'the state from before the recovery was brought back' };
      await updateIncident(context, id, known => ({
        ...known,
        ...{ status: 'open', resolution: null, events: [...known.events, event] },
      }));
    }
  });
}

async function recordQuietly(onEvent: OnEvent, record: () => Promise<void>): Promise<void> {
  try {
    await record();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const message = `the restore is not on the record of an incident: ${error.message}`;
    onEvent({ type: 'note', level: 'warning', message });
  }
}

function isUndone({ id, transaction, systemIdentifier }: Incident, report: RestoreReport): boolean {
  const { incident, firstDropped } = report.target;
  if (incident !== null) return incident === id;
  return (
    systemIdentifier === report.backup.systemIdentifier &&
    firstDropped !== null &&
    transaction.endLsn === firstDropped.lsn &&
    transaction.xid === firstDropped.xid
  );
}

function withRecovery(incident: Incident, report: RestoreReport, times: Milestones): Incident {
  const recovery = recoveryOf(incident, report, times);
  const isBack = recovery.mode === 'in-place';
  return {
    ...incident,
    ...(isBack && incident.status === 'open'
      ? { status: 'resolved', resolution: 'restored in place to just before it' }
      : {}),
    events: [...incident.events, ...eventsOf(recovery, report)],
    recoveries: [...(incident.recoveries ?? []), recovery],
  };
}

function recoveryOf(incident: Incident, report: RestoreReport, times: Milestones): IncidentRecovery {
  const isInPlace = report.mode === 'in-place';
  return {
    startedAt: times.startedAt,
    serverStoppedAt: isInPlace ? times.serverStoppedAt : null,
    onlineAt: isInPlace ? times.onlineAt : null,
    finishedAt: new Date().toISOString(),
    mode: report.mode,
    way: report.way?.kind ?? null,
    backupId: report.backup.id,
    lastKeptAt: report.target.lastKept?.time.replace(' ', 'T').replace(' UTC', 'Z') ?? null,
    lost: report.loss === null ? null : lostBeside(incident, report.loss),
    safetyPath: report.safety?.path ?? null,
  };
}

const MOST_TABLES = 50;

/** What is lost beside the incident itself. */
export function lostBeside(
  { tables }: Pick<Incident, 'tables'>,
  loss: LossAccount,
): NonNullable<IncidentRecovery['lost']> {
  const own = (label: LossAccount['tables'][number], act: 'delete' | 'update'): number =>
    tables
      .filter(
        each =>
          each.act === act &&
          each.table === label.table &&
          each.schema === label.schema &&
          each.database === label.database,
      )
      .reduce((sum, each) => sum + (each.rows ?? 0), 0);
  const others = loss.tables
    .map(each => ({
      ...{ database: each.database, schema: each.schema, table: each.table, inserted: each.inserted },
      updated: Math.max(0, each.updated - own(each, 'update')),
      deleted: Math.max(0, each.deleted - own(each, 'delete')),
    }))
    .filter(each => each.inserted + each.updated + each.deleted > 0);
  return {
    transactions: Math.max(0, loss.transactions - 1),
    tables: others.slice(0, MOST_TABLES),
    lastAt: loss.lastTime,
  };
}

function eventsOf(recovery: IncidentRecovery, report: RestoreReport): IncidentEvent[] {
  const { startedAt, serverStoppedAt, onlineAt, finishedAt, mode, way, backupId } = recovery;
  const how = mode === 'directory' ? 'a copy beside the instance' : `${way ?? 'restore'} in place`;
  const events: IncidentEvent[] = [
    {
      at: startedAt,
      event: 'recovery started',
      text: `recovery to just before it started: ${how}, from ${backupId}`,
    },
  ];
  if (serverStoppedAt !== null)
    events.push({ at: serverStoppedAt, event: 'server stopped', text: 'server stopped for the recovery' });
  if (onlineAt !== null) events.push({ at: onlineAt, event: 'online', text: 'database online again' });
  const rows = report.recovered?.checks.rows.counted.length ?? 0;
  const verified = rows === 0 ? '' : `, ${formatCount(rows)} tables counted`;
  const problems =
    report.problems.length === 0 ? '' : `, with ${formatCount(report.problems.length)} problems`;
  events.push({
    at: finishedAt,
    event: 'recovered',
    text: `recovery complete after ${formatSeconds(report.seconds)}${verified}${problems}`,
  });
  return events;
}
