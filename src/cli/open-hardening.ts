import type { HardenContext } from '../operations/harden/read-hardening.ts';
import type { CommandRun } from './run-command.ts';

/** What the commands of `security` work with, from the configuration that the flags and the environment name. */
export async function openHardening({ terminal, flags }: CommandRun): Promise<HardenContext> {
  const [{ readConfig }, { openServerOf }] = await Promise.all([
    import('../config/read-config.ts'),
    import('../app/open-instance.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  return openServerOf(config, { env: terminal.env, instance: flags.instance });
}
