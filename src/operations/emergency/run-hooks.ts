import { messageOf } from '../../base/errors.ts';
import type { OnEvent } from '../../base/events.ts';
import { runCommand } from '../../base/run-command.ts';
import { lastLines, plainEnvironment } from '../../engines/postgres/service-process.ts';
import type { EmergencyContext, EmergencyHook } from './emergency-context.ts';
import type { StopLevel } from './stop-record.ts';

/** What is going on, for hooks: each a variable `AISHELL_…` of their environment. */
export interface HookMoment {
  readonly action: 'stop' | 'resume';
  readonly when: 'before' | 'after';
  readonly step: string;
  readonly level: StopLevel;
  readonly stop: string;
  readonly reason: string | null;
}

/**
 * Runs the hooks of this moment one after the other. One that fails or takes too long is told and passed over: stopping
 * writes never depends on it. They get none of this program's environment but PATH, HOME and the language, so no secret.
 */
export async function runHooks(
  context: Pick<EmergencyContext, 'instance' | 'settings'>,
  moment: HookMoment,
  onEvent: OnEvent,
): Promise<string[]> {
  const problems: string[] = [];
  for (const hook of context.settings.hooks) {
    if (!matches(hook, moment)) continue;
    const why = await run(hook, context.instance, moment);
    if (why === null) continue;
    const problem = `the hook ${moment.when} '${moment.step}' failed: ${why}`;
    problems.push(problem);
    onEvent({ type: 'note', level: 'warning', message: problem });
  }
  return problems;
}

function matches(hook: EmergencyHook, moment: HookMoment): boolean {
  return (
    (hook.when === null || hook.when === moment.when) && (hook.step === null || hook.step === moment.step)
  );
}

async function run(hook: EmergencyHook, instance: string, moment: HookMoment): Promise<string | null> {
  try {
    const done = await runCommand(['/bin/sh', '-c', hook.command], {
      cwd: '/',
      env: {
        ...plainEnvironment(),
        AISHELL_INSTANCE: instance,
        AISHELL_ACTION: moment.action,
        AISHELL_WHEN: moment.when,
        AISHELL_STEP: moment.step,
        AISHELL_LEVEL: moment.level,
        AISHELL_STOP: moment.stop,
        AISHELL_REASON: moment.reason ?? '',
      },
      timeoutMs: hook.timeoutMs,
    });
    return done.exitCode === 0
      ? null
      : `exit code ${done.exitCode}: ${lastLines(`${done.stdout}\n${done.stderr}`, 2)}`;
  } catch (error) {
    return messageOf(error);
  }
}
