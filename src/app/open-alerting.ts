import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { Alerting } from '../notify/alerting.ts';
import { openChannel } from '../notify/open-channel.ts';
import { stateDirectory } from './state-directory.ts';

/** Everything that telling people needs, from the configuration. No secret is read before something is delivered. */
export function openAlerting(
  config: Pick<Config, 'file' | 'notifications'>,
  env: NodeJS.ProcessEnv,
): Alerting {
  const { channels, policy, directory } = config.notifications;
  return {
    channels: channels.map(settings => openChannel(settings, { env })),
    policy,
    directory: directory ?? ownDirectory(config.file, env),
  };
}

/** One for each configuration: two of them may call different channels by one name. */
function ownDirectory(file: string, env: NodeJS.ProcessEnv): string | null {
  const state = stateDirectory(env);
  const name = createHash('sha256').update(file).digest('hex').slice(0, 16);
  return state === null ? null : join(state, 'notify', name);
}
