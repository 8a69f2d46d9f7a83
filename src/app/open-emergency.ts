import { userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { selectInstance } from '../config/to-config.ts';
import { notify } from '../notify/notify.ts';
import type { EmergencyContext, EmergencyNotice } from '../operations/emergency/emergency-context.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { checkInstanceName } from '../repository/layout.ts';
import { openAlerting } from './open-alerting.ts';
import { connectionOf, type InstanceOptions, openInstance } from './open-instance.ts';

/**
 * Builds what stopping and resuming writes work with. The repository is opened when it is first asked for, and whether it can be is known
 * only where it is used: an emergency does not wait for it.
 *
 * @throws USAGE INSTANCE_NOT_FOUND CONFIG
 */
export function openEmergency(config: Config, options: InstanceOptions): EmergencyContext {
  const instance = selectInstance(config, options.instance);
  const { stateDirectory, ...settings } = config.emergency;
  let opening: Promise<InstanceContext> | null = null;
  return {
    instance: checkInstanceName(instance.name),
    connection: connectionOf(instance, options.env),
    dataDirectory: instance.dataDirectory,
    binaries: instance.binaries,
    service: instance.service,
    settings: { ...settings, stateDirectory: stateDirectory ?? defaultStateDirectory(options.env) },
    toolVersion: options.toolVersion,
    tell: async notice => {
      const alerting = openAlerting(config, options.env);
      const signal = options.signal ?? new AbortController().signal;
      const told = await notify(alerting, notificationOf(instance.name, notice), { signal });
      const delivered = told.outcomes.filter(({ state }) => state === 'delivered');
      return { delivered: delivered.map(({ channel }) => channel), problems: told.problems };
    },
    open: () => {
      opening ??= openInstance(config, options);
      return opening;
    },
  };
}

/** A stop has a thread of its own, which ends when writes are possible again; the incident's goes on. */
function notificationOf(instance: string, notice: EmergencyNotice): Parameters<typeof notify>[1] {
  const { severity, title, facts, commands, stop, incident, isEnd } = notice;
  const dedupKey = `aishell/${instance}/emergency/${stop}`;
  return {
    kind: 'emergency',
    ...{ severity, instance, title, facts, commands, dedupKey },
    ...(incident === null ? {} : { incidentId: incident }),
    ...(isEnd ? { resolvedOf: dedupKey } : {}),
  };
}

/** @source XDG Base Directory Specification, XDG_STATE_HOME */
function defaultStateDirectory(env: NodeJS.ProcessEnv): string {
  const given = env['XDG_STATE_HOME'];
  if (given !== undefined && isAbsolute(given)) return join(given, 'aishell', 'emergency');
  const home = env['HOME'] ?? homeOfUser();
  if (home !== null && isAbsolute(home)) return join(home, '.local', 'state', 'aishell', 'emergency');
  throw new AppError('CONFIG', 'unable to choose a directory for records: this user has no home directory', {
    hint: 'Set `emergency.state_directory` in aishell.yaml to a directory of its own on a local disk.',
  });
}

function homeOfUser(): string | null {
  try {
    return userInfo().homedir;
  } catch {
    // An account that is in no list of users has no home.
    return null;
  }
}
