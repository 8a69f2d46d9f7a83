import { formatShare } from '../../base/sizes.ts';
import type { StopReport } from '../../operations/emergency/stop-report.ts';
import { describeDamage, nameOfTable, shareOf } from '../../operations/incident/describe-damage.ts';
import type { Incident, IncidentTable } from '../../operations/incident/incident.ts';
import { FOUND_IN_LOG } from '../../operations/incident/incident-from-log.ts';
import { isRateIncident } from '../../operations/incident/rate-incident.ts';
import { describeOutlook } from '../../operations/recovery-time/describe-outlook.ts';
import { type Page, printable } from './page.ts';
import { formatTime, formatTimeFine } from './time.ts';

/** The tutorial's emergency alert. What is not known is not there. */
export function drawAlert(page: Page, report: StopReport): void {
  const { incident, outlook } = report;
  page.title(titleOf(report));
  if (incident !== null) {
    page.line(`Detected: ${formatTime(incident.detectedAt)} (${detectedBy(incident)})`);
    page.line(`Severity: ${page.style.bad(incident.severity.toUpperCase())}`);
    page.section('Incident', incidentLines(incident));
  }
  page.section(
    'Immediate Actions Taken',
    report.actions.map(({ text, at }) => `${page.style.good('✓')} ${printable(text)} (${at.slice(11, 19)})`),
  );
  if (outlook !== null) {
    page.line();
    page.line(`${page.style.title('Time to recovery')}: ${describeOutlook(outlook)}`);
  }
  drawRecommended(page, report);
}

function titleOf({ incident, problems }: StopReport): string {
  if (incident !== null && incident.transaction.outcome !== 'rolled back' && !isRateIncident(incident))
    return '🚨 EMERGENCY: DATA LOSS DETECTED';
  return problems.length === 0
    ? '🚨 EMERGENCY: WRITES STOPPED'
    : '🚨 EMERGENCY: WRITES STOPPED, WITH PROBLEMS';
}

/** A rule of the watch is a word of the configuration, which says nothing by itself. */
function detectedBy({ rule }: Incident): string {
  return rule.name === FOUND_IN_LOG ? rule.name : `by the agent, rule '${rule.name}'`;
}

const outcomeTexts: Readonly<Record<Incident['transaction']['outcome'], string | null>> = {
  committed: null,
  running: 'It was still running when it was last seen.',
  'rolled back': 'It was rolled back: nothing of it is lost.',
  prepared: 'It is prepared, and not committed yet.',
};

function incidentLines(incident: Incident): string[] {
  const { tables, transaction, culprit, rule } = incident;
  const damage = describeDamage(incident);
  const lines = tables.flatMap((table, index) => [printable(damage[index] ?? ''), ...impactLines(table)]);
  const outcome = outcomeTexts[transaction.outcome];
  const by = [
    culprit?.role == null ? null : `role ${culprit.role}`,
    culprit?.application ? culprit.application : null,
    culprit?.client == null ? null : `from ${culprit.client}`,
  ].filter(part => part !== null);
  return [
    ...lines,
    ...(by.length === 0 ? [] : [`By: ${printable(by.join(', '))}`]),
    ...(outcome === null ? [] : [outcome]),
    ...(rule.confidence === 'certain' ? [] : [`Confidence: ${rule.confidence}`]),
    `On record as: ${incident.id}`,
  ];
}

/** Those of a table that was hit; only a delete, a truncate or a drop takes rows away. */
function impactLines(table: IncidentTable): string[] {
  const share = shareOf(table);
  if (share === null) return [];
  const isLoss = table.act !== 'update' && table.act !== 'rate';
  const about = table.act === 'delete' || table.act === 'update' ? 'about ' : '';
  const lines = [`${isLoss ? 'Data loss' : 'Changed'}: ${about}${formatShare(share)} of the table`];
  return share > 0.995 ? [...lines, `Impact: ALL ROWS OF ${printable(nameOfTable(table))} AFFECTED`] : lines;
}

function drawRecommended(page: Page, { recommended, incident, level }: StopReport): void {
  if (recommended === null) return;
  const { xid, did, committedAt, command } = recommended;
  const when = committedAt === null ? '' : `, committed ${formatTimeFine(committedAt)}`;
  page.section('Recommended', [
    `Restore to just before transaction ${xid}${when}`,
    `It ${printable(did)}`,
    command === null ? 'No backup reaches back so far' : page.style.title(command),
    // At the other levels nobody can write, an undo neither.
    ...(incident === null || level !== 'soft'
      ? []
      : [
          'Or put back its rows alone, with the server open and all later writes kept',
          page.style.title(`aishell backup undo ${shortId(incident.id)}`),
        ]),
  ]);
}

/** The last characters of an incident's id are enough to name it. */
export function shortId(id: string): string {
  return id.slice(id.lastIndexOf('_') + 1);
}
