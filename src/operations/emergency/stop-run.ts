import { type OnEvent, runStep } from '../../base/events.ts';
import type { WriteWatch } from '../../engines/postgres/write-watch.ts';
import type { RunOptions } from '../instance-context.ts';
import type { ControlSession } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import type { StopPlan } from './plan-stop.ts';
import type { LocalServer } from './plan-strict.ts';
import { runHooks } from './run-hooks.ts';
import { markStep, type StepMark } from './stop-journal.ts';
import type { StopRecord } from './stop-record.ts';
import type { StopAction } from './stop-report.ts';

/** One run of stopping or resuming, handed from step to step. */
export interface EmergencyRun {
  readonly context: EmergencyContext;
  readonly options: RunOptions;
  readonly action: StepMark['action'];
  readonly record: StopRecord;
  readonly actions: StopAction[];
  readonly problems: string[];
  /** Marks of steps on their way to the disk, one after the other: nothing waits for them but the end. */
  marked: Promise<void>;
}

/** A run that stops writes. */
export interface StopRun extends EmergencyRun {
  readonly plan: StopPlan;
  /** The stop that was in force already. */
  readonly known: StopRecord | null;
  readonly local: LocalServer | null;
  /** Another after a restart of the server. */
  control: ControlSession;
  readonly watch: WriteWatch;
  /** As `performance.now()`. */
  readonly startedAt: number;
}

export interface StepSpec<T> {
  readonly id: string;
  readonly title: string;
  readonly detail?: (result: T) => string | undefined;
}

/** Runs one step with its hooks around it, and marks it as done. Between steps, and only there, a run can be cancelled. */
export async function runEmergencyStep<T>(
  run: EmergencyRun,
  step: StepSpec<T>,
  work: () => Promise<T>,
): Promise<T> {
  run.options.signal.throwIfAborted();
  await hooks(run, step.id, 'before', run.options.onEvent);
  const result = await runStep(run.options.onEvent, step, work);
  const at = new Date().toISOString();
  const detail = step.detail?.(result);
  run.actions.push({
    step: step.id,
    text: detail === undefined ? step.title : `${step.title}: ${detail}`,
    at,
  });
  const mark: StepMark = { action: run.action, step: step.id, at };
  // Without the mark the record is still whole, and that is what counts.
  run.marked = run.marked.then(() =>
    markStep(run.context.settings.stateDirectory, run.record.instance, mark).catch(() => undefined),
  );
  await hooks(run, step.id, 'after', run.options.onEvent);
  return result;
}

async function hooks(
  run: EmergencyRun,
  step: string,
  when: 'before' | 'after',
  onEvent: OnEvent,
): Promise<void> {
  if (run.context.settings.hooks.length === 0) return;
  const { level, id, reason } = run.record;
  const moment = { action: run.action, when, step, level, stop: id, reason };
  run.problems.push(...(await runHooks(run.context, moment, onEvent)));
}
