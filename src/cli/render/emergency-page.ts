import { counted, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { PreparedTransaction, SessionFacts } from '../../engines/postgres/write-sessions.ts';
import type { EmergencyStatus } from '../../operations/emergency/emergency-status.ts';
import type { StopPlan } from '../../operations/emergency/plan-stop.ts';
import type { ResumeReport } from '../../operations/emergency/resume-writes.ts';
import type { Change, StopLevel } from '../../operations/emergency/stop-record.ts';
import type { StopReport, StopTimes } from '../../operations/emergency/stop-report.ts';
import { drawAlert, shortId } from './emergency-alert.ts';
import { type Line, type Page, printable } from './page.ts';
import { formatTime } from './time.ts';

const levelTexts: Readonly<Record<StopLevel, string>> = {
  soft: 'soft: reads go on, ordinary writers are refused',
  hard: 'hard: connections are refused, superusers of the control database aside',
  strict: 'strict: the server is in recovery mode, nobody can write',
};

/** What is going to be changed, before the question and after a dry run. */
export function drawStopPlan(page: Page, plan: StopPlan): void {
  const { sessions, prepared } = plan;
  page.section('Plan', [
    ['Instance', `${plan.instance} (PostgreSQL ${printable(plan.serverVersion)})`],
    ['Level', levelTexts[plan.level]],
    [
      'Sessions',
      sessions === null
        ? null
        : `${formatCount(sessions.total)}, ${formatCount(sessions.inTransaction.length)} in a transaction`,
    ],
    ['Restart', plan.service === null ? null : `with ${printable(plan.service)}`],
  ]);
  page.section('Will be changed, and put back by resume-writes', plan.changes.map(changeLine));
  drawPrepared(page, prepared);
  page.section('Unlogged tables that the restart empties', plan.unlogged.map(printable));
  page.section(
    'Warnings',
    plan.warnings.map(warning => `${page.style.warn('⚠️ ')} ${printable(warning)}`),
  );
  page.line();
}

/** What was done, under the tutorial's emergency alert where a disaster is known. */
export function drawStopped(page: Page, report: StopReport): void {
  if (report.dryRun) {
    drawStopPlan(page, report.plan);
    page.line('Nothing was changed: this was a dry run.');
    return;
  }
  page.line();
  drawAlert(page, report);
  page.section('Writes', [
    ['Stopped', report.stoppedAt === null ? null : formatTime(report.stoppedAt)],
    ['Level', levelTexts[report.level]],
    ['Reason', report.reason === null ? null : printable(report.reason)],
  ]);
  page.section('Measured, since it was asked for', timeLines(report));
  page.section('Sessions ended', sessionLines(report.ended));
  drawPrepared(page, report.prepared);
  drawProblems(page, report.problems);
  page.line();
  if (report.incident !== null)
    page.line(
      `What happened: ${page.style.title(`aishell backup analyze-incident ${shortId(report.incident.id)}`)}`,
    );
  page.line(`To let writes in again: ${page.style.title('aishell emergency resume-writes')}`);
}

export function drawResumed(page: Page, report: ResumeReport): void {
  page.line();
  if (!report.resumed) {
    page.line(`Writes of '${report.instance}' are not stopped: there is nothing to put back.`);
    return;
  }
  const since = report.stops.map(({ level, stoppedAt }) => `${level}, since ${formatTime(stoppedAt)}`);
  const after = `after ${formatSeconds(report.seconds)}`;
  const text = `Writes of '${report.instance}' are possible again (${since.join('; ')}) ${after}`;
  page.line(
    report.problems.length === 0
      ? page.style.good(`✅ ${text}`)
      : page.style.warn(
          report.writable ? `⚠️  ${text}, with problems` : `⚠️  Put back, with problems, ${after}`,
        ),
  );
  const count = (outcome: string): number =>
    report.changes.filter(change => change.outcome === outcome).length;
  page.section('Put back', [
    `${counted(count('restored'), 'change')}, as it was before`,
    ...(count('unchanged') === 0 ? [] : [`${counted(count('unchanged'), 'change')} were so already`]),
  ]);
  drawProblems(page, report.problems);
}

export function drawEmergencyStatus(page: Page, status: EmergencyStatus): void {
  const { stop, server } = status;
  if (stop === null) {
    page.line(`Writes of '${status.instance}' are not stopped.`);
  } else {
    const effect =
      status.inEffect === null
        ? 'unknown: the server does not answer'
        : status.inEffect
          ? 'yes'
          : 'not entirely';
    page.title('🚨 WRITES ARE STOPPED');
    page.line(
      `Since: ${formatTime(stop.stoppedAt)}, by ${printable(stop.by.user)} on ${printable(stop.by.host)}`,
    );
    page.line(`Level: ${levelTexts[stop.level]}`);
    if (stop.reason !== null) page.line(`Reason: ${printable(stop.reason)}`);
    page.line(`In effect: ${effect}`);
    page.section('Changed, and put back by resume-writes', stop.changes.map(changeLine));
    if (status.steps.length > 0)
      page.section('Steps done', [
        status.steps.map(({ step, at }) => `${step} (${at.slice(11, 19)})`).join(', '),
      ]);
  }
  if (server !== null) {
    page.section('Server', [
      ['PostgreSQL', printable(server.version)],
      ['Recovery mode', server.inRecovery ? 'yes' : 'no'],
      ['New sessions', server.readOnly || server.inRecovery ? 'read-only' : 'may write'],
      [
        'Closed databases',
        server.closedDatabases.length === 0 ? null : server.closedDatabases.map(printable).join(', '),
      ],
      ['Maintenance page', status.maintenance],
    ]);
    drawPrepared(page, server.prepared);
  }
  drawProblems(page, status.problems);
  if (stop !== null) {
    page.line();
    page.line(`To let writes in again: ${page.style.title('aishell emergency resume-writes')}`);
  }
}

function timeLines({ times, proof }: StopReport): readonly Line[] {
  const ms = (name: keyof StopTimes): string | null =>
    times[name] === null ? null : `${formatCount(times[name])} ms`;
  return [
    ['Last write seen', ms('lastWriteMs') ?? 'none while it was watched'],
    ['New transactions read-only', ms('readOnlyMs')],
    ['Writers terminated', ms('terminatedMs')],
    ['Writes stopped', ms('stoppedMs')],
    [
      'Then watched',
      proof === null
        ? null
        : `${formatCount(proof.watchedMs)} ms, ${formatCount(proof.transactions)} transactions wrote (log at ${proof.lsn})`,
    ],
  ];
}

const SESSIONS_SHOWN = 10;

function sessionLines(sessions: readonly SessionFacts[]): readonly Line[] {
  const wrote = sessions.filter(session => session.wrote);
  const lines = wrote.slice(0, SESSIONS_SHOWN).map(({ pid, user, application, database, client, kind }) => {
    const as = application === '' ? '' : ` (${printable(application)})`;
    return `${printable(user ?? kind)}${as} in ${printable(database ?? '-')}${client === null ? '' : ` from ${client}`}, process ${pid}: its transaction was undone`;
  });
  const more = wrote.length - lines.length;
  const others = sessions.length - wrote.length;
  return [
    ...lines,
    ...(more > 0 ? [`and ${formatCount(more)} more that had written`] : []),
    ...(others > 0 ? [`${formatCount(others)} that had written nothing`] : []),
  ];
}

function drawPrepared(page: Page, prepared: readonly PreparedTransaction[]): void {
  page.section(
    'Prepared transactions, which keep their locks and can still be committed at level soft',
    prepared.map(
      ({ gid, owner, database, prepared: at }) =>
        `'${printable(gid)}' of ${printable(owner)} in ${printable(database)}, since ${formatTime(at)}`,
    ),
  );
}

function changeLine(change: Change): string {
  const was = (before: string | null): string => (before === null ? 'not set' : `'${printable(before)}'`);
  switch (change.kind) {
    case 'setting':
      return `setting ${change.name}: ${was(change.before)} → '${change.during}'`;
    case 'role-setting': {
      const whose = [
        change.role ?? 'all roles',
        ...(change.database === null ? [] : [`in ${change.database}`]),
      ];
      return `setting ${change.name} of ${printable(whose.join(' '))}: ${was(change.before)} → '${change.during}'`;
    }
    case 'database':
      return change.during.allowConnections
        ? `database ${printable(change.name)}: superusers alone may connect`
        : `database ${printable(change.name)}: nobody may connect`;
    case 'subscription':
      return `subscription ${printable(change.name)} in ${printable(change.database)}: disabled`;
    case 'standby-signal':
      return `server in ${printable(change.dataDirectory)}: restarted in recovery mode`;
    case 'maintenance-file':
      return `maintenance page ${printable(change.path)}: on`;
  }
}

function drawProblems(page: Page, problems: readonly string[]): void {
  page.section(
    'Problems',
    problems.map(problem => `${page.style.warn('⚠️ ')} ${printable(problem)}`),
  );
}
