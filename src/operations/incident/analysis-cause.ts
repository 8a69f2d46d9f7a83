import { formatSeconds } from '../../base/sizes.ts';
import { readQuery } from '../../engines/postgres/query-text.ts';
import type { Incident } from './incident.ts';
import { isRateIncident } from './rate-incident.ts';

/** What is known of how it came to this, in sentences. */
export function causeOf(
  { culprit, transaction, guard }: Incident,
  server: { readonly isSuperuser: boolean | null },
): string[] {
  if (culprit === null) return [];
  const { role, application, client, database, pid } = culprit;
  const who = [
    role === null ? 'An unknown role' : `Role ${role}`,
    database === null ? null : `in database ${database}`,
    application ? `with ${application}` : null,
    client === null ? 'from the machine of the server' : `from ${client}`,
  ].filter(part => part !== null);
  const seconds = lengthOf(culprit.queryStartedAt, transaction.endedAt);
  return [
    `${who.join(' ')} (process ${pid})`,
    ...(server.isSuperuser === true ? [`Role ${role} is a superuser: nothing limits what it may do`] : []),
    ...queryCauses(culprit.query),
    ...(seconds === null ? [] : [`Its statement ran for ${formatSeconds(seconds)} before it was over`]),
    ...(guard.cancelled ? ['The guard cancelled it'] : []),
  ];
}

function queryCauses(query: string | null): string[] {
  if (query === null) return [];
  const { statement, where } = readQuery(query);
  if (where === 'none') return [`The ${statement} has no WHERE: it is about every row`];
  if (where === 'always true')
    return [`The WHERE of the ${statement} is true for every row: it limits nothing`];
  return [];
}

function lengthOf(from: string | null, to: string | null): number | null {
  if (from === null || to === null) return null;
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** What the report cannot say. */
export function unknownsOf(
  incident: Incident,
  known: { readonly isRecorded: boolean; readonly isInLog: boolean; readonly hasCost: boolean },
): string[] {
  const { culprit, transaction, tables } = incident;
  const unsure = tables.filter(each => each.rows === null);
  if (isRateIncident(incident))
    return ['which of the transactions were wrong, if any: only their rows were added up'];
  return [
    ...(culprit === null
      ? [
          'who did it, from where and with which statement: the log does not hold that, and nobody watched the sessions at that moment',
        ]
      : culprit.query === null
        ? ['the statement: the server did not say it']
        : []),
    ...(known.isRecorded ? [] : ['when it was noticed: no incident is on record']),
    ...(unsure.length > 0
      ? [`how many rows: TRUNCATE and DROP remove files, not rows (${unsure.length} tables)`]
      : []),
    ...(transaction.outcome === 'committed' && !known.isInLog
      ? ['more of the transaction: its part of the log is not archived']
      : []),
    ...(known.hasCost ? [] : ['what it cost: `cost_per_minute` of the instance is not configured']),
  ];
}
