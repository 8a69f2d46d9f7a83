import { AppError } from '../base/errors.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import type { GoBackContext } from '../operations/rewind/go-back.ts';
import type { CommandRun } from './run-command.ts';
import { programVersion } from './version.ts';

/** What a command's operation works with, from the configuration that the flags and the environment name. */
export async function openCommandInstance(
  { terminal, flags, signal }: CommandRun,
  options: { readonly workers?: number | undefined } = {},
): Promise<InstanceContext> {
  const [{ readConfig }, { openInstance }] = await Promise.all([
    import('../config/read-config.ts'),
    import('../app/open-instance.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  return await openInstance(config, {
    env: terminal.env,
    signal,
    instance: flags.instance,
    workers: options.workers,
    toolVersion: programVersion(),
  });
}

/** The same for what may have to do without the repository: then `whole` is null. */
export async function openGoBackContext(
  run: CommandRun,
  options: { readonly workers?: number | undefined } = {},
): Promise<GoBackContext> {
  const { terminal, flags } = run;
  const [{ readConfig }, { openServerOf }] = await Promise.all([
    import('../config/read-config.ts'),
    import('../app/open-instance.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const server = openServerOf(config, { env: terminal.env, instance: flags.instance });
  try {
    return { ...server, whole: await openCommandInstance(run, options) };
  } catch (error) {
    run.signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    const message = `the repository cannot be used: ${error.message}`;
    run.onEvent({ type: 'note', level: 'warning', message });
    return { ...server, whole: null };
  }
}
