import { formatCount } from '../../base/sizes.ts';
import { describeIncident, describeLoss, worstFirst } from '../../operations/incident/describe-incident.ts';
import type { Incident } from '../../operations/incident/incident.ts';
import { isRateIncident } from '../../operations/incident/rate-incident.ts';
import type { ResolveReport } from '../../operations/incident/resolve-incident.ts';
import { commandsFor } from '../../watch/incident-notification.ts';
import { type Page, printable, truncate } from './page.ts';
import { formatTime, formatTimeFine } from './time.ts';

const TABLES_SHOWN = 20;
const QUERY_WIDTH = 300;

export function drawIncident(page: Page, incident: Incident): void {
  const { rule, transaction, guard } = incident;
  const isOpen = incident.status === 'open';
  page.title(`${isOpen ? '🚨' : '✅'} Incident: ${printable(describeIncident(incident))}`);
  page.line(`  ID: ${incident.id}`);
  page.line(`  Instance: ${incident.instance}`);
  page.line(`  Noticed: ${formatTime(incident.detectedAt)}`);
  page.line(`  Severity: ${incident.severity}`);
  const resolution = incident.resolution === null ? '' : `: ${printable(incident.resolution)}`;
  page.line(`  Status: ${incident.status}${resolution}`);
  page.section('Rule', [
    ['Name', `${rule.name}, ${rule.confidence}`],
    ['Why', printable(rule.explanation)],
  ]);
  const tables = worstFirst(incident.tables);
  page.section('Tables', [
    ...tables
      .slice(0, TABLES_SHOWN)
      .map(table => `${printable(table.database)}: ${printable(describeLoss(table))}`),
    ...(tables.length > TABLES_SHOWN ? [`… and ${formatCount(tables.length - TABLES_SHOWN)} more`] : []),
  ]);
  if (isRateIncident(incident)) page.section('Transactions', [['Last of them', String(transaction.xid)]]);
  else drawTransaction(page, incident);
  page.section('Guard', [
    ['Policy', guard.policy],
    ['Cancelled', guard.cancelled ? 'yes' : null],
    ['Snapshot', snapshotText(guard)],
    [
      'Autovacuum off',
      guard.autovacuumOff.length === 0 ? null : guard.autovacuumOff.map(printable).join(', '),
    ],
  ]);
  page.section(
    'What happened',
    incident.events.map(({ at, text }) => `${at.slice(11, 23)}  ${printable(text)}`),
  );
  if (!isOpen) return;
  page.line();
  page.line(page.style.title('Next:'));
  for (const { title, command } of commandsFor(incident).filter(each => !each.command.includes(' show '))) {
    page.line(`  ${title}:`);
    page.line(`    ${page.style.title(command)}`);
  }
}

function drawTransaction(page: Page, { transaction, culprit }: Incident): void {
  page.section('Transaction', [
    ['Number', String(transaction.xid)],
    ['Outcome', transaction.outcome],
    ['Ended', transaction.endedAt === null ? null : formatTimeFine(transaction.endedAt)],
    ['Begins at', transaction.beginLsn],
    ['Ends at', transaction.endLsn],
  ]);
  if (culprit === null) page.section('Who', ['Not known: the session had ended.']);
  else
    page.section('Who', [
      ['Role', culprit.role === null ? null : printable(culprit.role)],
      ['Application', culprit.application === null ? null : printable(culprit.application)],
      ['Client', culprit.client ?? 'local socket'],
      ['Process', String(culprit.pid)],
      [
        'Statement',
        culprit.query === null ? null : truncate(printable(culprit.query.replace(/\s+/g, ' ')), QUERY_WIDTH),
      ],
      ['Statement began', culprit.queryStartedAt === null ? null : formatTimeFine(culprit.queryStartedAt)],
    ]);
}

export function drawResolved(page: Page, report: ResolveReport): void {
  const { incident, released, problems } = report;
  page.line();
  if (report.dryRun) {
    page.section('Would be let go', released.length === 0 ? ['nothing is held'] : released.map(printable));
    page.line();
    page.line('Nothing was changed: this was a dry run.');
    return;
  }
  page.line(
    report.already
      ? `${incident.id} was resolved before: ${printable(incident.resolution ?? '')}`
      : page.style.good(`✅ ${incident.id} is resolved: ${printable(incident.resolution ?? '')}`),
  );
  page.section('Let go', released.map(printable));
  page.section(
    'Problems',
    problems.map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
}

function snapshotText({ snapshot }: Incident['guard']): string | null {
  if (snapshot === null) return null;
  return snapshot.releasedAt === null
    ? `${snapshot.name} of ${printable(snapshot.database)}, held until ${formatTime(snapshot.heldUntil)}`
    : `released ${formatTime(snapshot.releasedAt)}`;
}
