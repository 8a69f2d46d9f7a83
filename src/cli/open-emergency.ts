import type { EmergencyContext } from '../operations/emergency/emergency-context.ts';
import type { CommandRun } from './run-command.ts';
import { programVersion } from './version.ts';

/** What a command of an emergency works with, from the configuration that the flags and the environment name. */
export async function openCommandEmergency({
  terminal,
  flags,
  signal,
}: CommandRun): Promise<EmergencyContext> {
  const [{ readConfig }, { openEmergency }] = await Promise.all([
    import('../config/read-config.ts'),
    import('../app/open-emergency.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  return openEmergency(config, {
    env: terminal.env,
    signal,
    instance: flags.instance,
    toolVersion: programVersion(),
  });
}
