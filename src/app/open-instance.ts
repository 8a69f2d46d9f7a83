import { availableParallelism } from 'node:os';
import { resolveSecretRef } from '../base/secret.ts';
import type { Config, InstanceConfig } from '../config/config.ts';
import { selectInstance } from '../config/to-config.ts';
import { type ConnectionSettings, parseConnectionUrl } from '../engines/postgres/connection-target.ts';
import type { InstanceContext } from '../operations/instance-context.ts';
import { checkInstanceName } from '../repository/layout.ts';
import { parseStorageLocation } from '../storage/registry.ts';
import { type OpenOptions, openConfiguredRepository } from './open-repository.ts';
import { stateDirectory } from './state-directory.ts';

/** Most instances have some processors to spare for a backup, not all of them. */
const WORKERS_AT_MOST = 8;

export interface InstanceOptions extends OpenOptions {
  /** `--instance`. */
  readonly instance?: string | undefined;
  /** `--workers`. */
  readonly workers?: number | undefined;
  readonly toolVersion: string;
}

/** Builds what operations on one instance work with. @throws as openConfiguredRepository; USAGE, INSTANCE_NOT_FOUND */
export async function openInstance(config: Config, options: InstanceOptions): Promise<InstanceContext> {
  const instance = selectInstance(config, options.instance);
  const repository = await openConfiguredRepository(config, options);
  return {
    instance: checkInstanceName(instance.name),
    repository,
    location: parseStorageLocation(config.repository.storage),
    connection: connectionOf(instance, options.env),
    dataDirectory: instance.dataDirectory,
    binaries: instance.binaries,
    service: instance.service,
    level: config.backup.compression,
    workers: options.workers ?? config.backup.workers ?? Math.min(WORKERS_AT_MOST, availableParallelism()),
    backupType: config.backup.type,
    toolVersion: options.toolVersion,
    recoveryTimeObjectiveSeconds: instance.recoveryTimeObjectiveSeconds,
    stateDirectory: stateDirectory(options.env),
  };
}

/** The same without the repository: how to reach and start an instance's server. */
export function openServerOf(
  config: Config,
  options: { readonly env: NodeJS.ProcessEnv; readonly instance?: string | undefined },
): Pick<InstanceContext, 'instance' | 'connection' | 'service' | 'binaries'> {
  const instance = selectInstance(config, options.instance);
  return {
    instance: checkInstanceName(instance.name),
    connection: connectionOf(instance, options.env),
    service: instance.service,
    binaries: instance.binaries,
  };
}

/** How to reach an instance's server; its password is fetched when the server asks for one. */
export function connectionOf(
  instance: Pick<InstanceConfig, 'connection' | 'password'>,
  env: NodeJS.ProcessEnv,
): ConnectionSettings {
  const settings = parseConnectionUrl(instance.connection);
  const { password } = instance;
  if (password === null) return settings;
  return { ...settings, password: async () => (await resolveSecretRef(password, { env })).reveal() };
}
