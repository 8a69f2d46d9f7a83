import type { ErrorCode } from '../../base/codes.ts';
import { AppError } from '../../base/errors.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { Incident } from './incident.ts';

/** The rule that adds up what many transactions do. */
export const RATE_RULE = 'rate';

/** Longer than what a rate is measured over: the timeline shows the usual just before it as well. */
const LOOK_BACK_MS = 600_000;

/**
 * Whether an incident is about many transactions together: its `transaction` is then the last of them only, and neither the
 * one that was wrong nor the first.
 */
export function isRateIncident({ rule }: Pick<Incident, 'rule'>): boolean {
  return rule.name === RATE_RULE;
}

/** The command that shows which transactions changed the table of an incident about a rate. */
export function rateTimelineCommand({ detectedAt, tables, instance }: Incident): string {
  const [table] = tables;
  const from = new Date(Date.parse(detectedAt) - LOOK_BACK_MS).toISOString();
  return shellCommand([
    ...['aishell', 'backup', 'timeline', '--from', from],
    ...(table?.schema == null ? [] : ['--table', `${table.database}.${table.schema}.${table.table}`]),
    ...['--min-rows', '1', '--instance', instance],
  ]);
}

/** Nothing can go back to before one transaction where many were. @throws `code` for an incident about a rate */
export function refuseRateIncident(incident: Incident, code: ErrorCode): void {
  if (!isRateIncident(incident)) return;
  throw new AppError(code, `incident '${incident.id}' is about many transactions together, not about one`, {
    hint: `\`${rateTimelineCommand(incident)}\` shows them: give the one that is meant with --xid, or a time with \`backup restore --point-in-time\`.`,
  });
}
