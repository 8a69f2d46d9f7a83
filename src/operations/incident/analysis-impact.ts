import type { AnalyzedTable, Downtime, DowntimeCost, IncidentAnalysis, Outage } from './analysis.ts';
import type { StoppedWrites } from './analysis-stops.ts';
import { shareOf } from './describe-damage.ts';
import type { Incident } from './incident.ts';

/** What it did to the data, to those who needed it, and to what came after. */
export function impactOf(
  incident: Incident,
  from: { readonly stops: readonly StoppedWrites[]; readonly cost: DowntimeCost | null; readonly now: Date },
): IncidentAnalysis['impact'] {
  const tables: AnalyzedTable[] = incident.tables.map(table => ({ ...table, share: shareOf(table) }));
  const downtime = downtimeOf(incident, from.stops, from.now);
  const back = incident.recoveries?.findLast(({ mode }) => mode === 'in-place');
  const { cost } = from;
  return {
    tables,
    downtime,
    cost:
      cost === null || downtime === null
        ? null
        : { ...cost, amount: (downtime.seconds / 60) * cost.perMinute },
    lost: back?.lost ?? null,
    lostSeconds: secondsBetween(back?.lastKeptAt ?? null, back?.lost?.lastAt ?? null),
  };
}

function downtimeOf(incident: Incident, stops: readonly StoppedWrites[], now: Date): Downtime | null {
  const outages: Outage[] = [
    ...stops.map(({ record, resumedAt }) => outage('writes stopped', record.stoppedAt, resumedAt, now)),
    ...(incident.recoveries ?? []).flatMap(({ serverStoppedAt, onlineAt }) =>
      serverStoppedAt === null ? [] : [outage('server down', serverStoppedAt, onlineAt, now)],
    ),
  ].sort((a, b) => Date.parse(a.from) - Date.parse(b.from));
  const [first] = outages;
  if (first === undefined) return null;
  const isOver = outages.every(({ to }) => to !== null);
  const last = outages.reduce((latest, { to }) => (to !== null && to > latest ? to : latest), first.from);
  return { from: first.from, to: isOver ? last : null, seconds: unionSeconds(outages, now), outages };
}

function outage(kind: Outage['kind'], from: string, to: string | null, now: Date): Outage {
  const end = to === null ? now.getTime() : Date.parse(to);
  return { kind, from, to, seconds: Math.max(0, end - Date.parse(from)) / 1000 };
}

/** @param outages in the order of their beginnings */
function unionSeconds(outages: readonly Outage[], now: Date): number {
  let ms = 0;
  let covered = Number.NEGATIVE_INFINITY;
  for (const { from, to } of outages) {
    const begin = Math.max(Date.parse(from), covered);
    const end = to === null ? now.getTime() : Date.parse(to);
    ms += Math.max(0, end - begin);
    covered = Math.max(covered, end);
  }
  return ms / 1000;
}

function secondsBetween(from: string | null, to: string | null): number | null {
  if (from === null || to === null) return null;
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000;
  return seconds >= 0 ? seconds : null;
}
