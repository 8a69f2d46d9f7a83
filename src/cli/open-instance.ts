import type { InstanceContext } from '../operations/instance-context.ts';
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
