import { describeDamage, headlineOf } from '../incident/describe-damage.ts';
import { describeOutlook } from '../recovery-time/describe-outlook.ts';
import type { EmergencyNotice } from './emergency-context.ts';
import type { StopReport } from './stop-report.ts';
import type { StopRun } from './stop-run.ts';

type Known = Pick<StopReport, 'incident' | 'recommended' | 'outlook'>;

/** Tells people that writes are stopped, and why as far as it is known. That they were told becomes an action of the stop. */
export async function tellOfStop(run: StopRun, known: Known): Promise<void> {
  const { options } = run;
  options.signal.throwIfAborted();
  const startedAt = performance.now();
  const { delivered, problems } = await run.context.tell(noticeOf(run, known));
  run.problems.push(...problems);
  if (delivered.length === 0) return;
  options.onEvent({
    ...{ type: 'step', step: 'notify', title: 'Team notified', state: 'done', detail: delivered.join(', ') },
    seconds: (performance.now() - startedAt) / 1000,
  });
  const text = `${known.incident === null ? 'Team' : 'Incident logged and team'} notified: ${delivered.join(', ')}`;
  run.actions.push({ step: 'notify', text, at: new Date().toISOString() });
}

function noticeOf(run: StopRun, { incident, recommended, outlook }: Known): EmergencyNotice {
  const { record, context } = run;
  const what = incident === null ? '' : `: ${headlineOf(incident)}`;
  const estimate = outlook?.estimate ?? null;
  return {
    severity: incident?.severity === 'critical' ? 'critical' : 'warning',
    title: `Writes of '${context.instance}' are stopped${what}`,
    facts: [
      ['Stopped', record.stoppedAt],
      ['Level', record.level],
      ['By', `${record.by.user} on ${record.by.host}`],
      ...(record.reason === null ? [] : [['Reason', record.reason] as const]),
      ...(incident === null
        ? []
        : [
            ['Incident', `${incident.id}, on record since ${incident.detectedAt}`] as const,
            ...describeDamage(incident).map(text => ['Damage', text] as const),
          ]),
      ...(outlook === null || estimate === null
        ? []
        : [['Time to recovery', describeOutlook(outlook)] as const]),
    ],
    commands: [
      ...(recommended?.command == null
        ? []
        : [
            {
              title: `Restore to just before transaction ${recommended.xid}`,
              command: recommended.command,
            },
          ]),
      { title: 'Let writes in again', command: 'aishell emergency resume-writes' },
    ],
    stop: record.id,
    incident: incident?.id ?? null,
    isEnd: false,
  };
}
