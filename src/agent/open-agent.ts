import { openAlerting } from '../app/open-alerting.ts';
import { openInstance } from '../app/open-instance.ts';
import type { Config } from '../config/config.ts';
import { selectInstance } from '../config/to-config.ts';
import { agentPaths } from './agent-paths.ts';
import type { InstanceAgentOptions } from './instance-agent.ts';

export interface OpenAgentOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** `--instance`; all of them when left out. */
  readonly instance?: string | undefined;
  /** `--synchronous`; as the configuration says when left out. */
  readonly synchronous?: boolean | undefined;
  /** What runs the watchdog of an instance. */
  readonly watchdog: (instance: string) => readonly string[];
  /** What holds a snapshot of an instance. */
  readonly holder: (instance: string) => readonly string[];
  readonly toolVersion: string;
}

/** What the agent of each instance works with. @throws as openInstance; CONFIG when there is no place for the spool */
export async function openAgent(
  config: Config,
  options: OpenAgentOptions,
): Promise<readonly Omit<InstanceAgentOptions, 'note'>[]> {
  const { agent } = config;
  const names =
    options.instance === undefined
      ? [...config.instances.keys()]
      : [selectInstance(config, options.instance).name];
  const opened: Omit<InstanceAgentOptions, 'note'>[] = [];
  for (const instance of names) {
    const { slot, watch } = selectInstance(config, instance);
    const isSynchronous = options.synchronous ?? agent.synchronous;
    opened.push({
      context: await openInstance(config, { ...options, instance }),
      paths: agentPaths(agent.spool, instance, options.env),
      slot,
      spoolLimitBytes: agent.spoolLimitBytes,
      archiveTimeoutMs: agent.archiveTimeoutSeconds * 1000,
      synchronous: isSynchronous
        ? { watchdog: options.watchdog(instance), timeoutMs: agent.synchronousTimeoutSeconds * 1000 }
        : null,
      watch: watch.enabled ? watch : null,
      holder: options.holder(instance),
      alerting: openAlerting(config, options.env),
    });
  }
  return opened;
}
