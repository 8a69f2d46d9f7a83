import { didYouMean } from '../base/did-you-mean.ts';
import { parseDuration } from '../base/duration.ts';
import { AppError, assert } from '../base/errors.ts';
import { parseSize } from '../base/sizes.ts';
import { parseCompression } from '../repository/compression.ts';
import type {
  AgentConfig,
  Config,
  EmergencyConfig,
  InstanceConfig,
  RepositoryKeyConfig,
  ServiceConfig,
} from './config.ts';
import type { RawConfig } from './schema.ts';
import { toAi } from './to-ai.ts';
import { toNotifications } from './to-notifications.ts';
import { toWatch } from './to-watch.ts';

/** Gives a checked file its meaning: defaults filled in, everything frozen. */
export function toConfig(raw: RawConfig, file: string): Config {
  const instances = new Map(
    Object.entries(raw.instances).map(([name, instance]) => [name, toInstance(name, instance, raw.watch)]),
  );
  return Object.freeze({
    file,
    instances,
    repository: Object.freeze({ storage: raw.repository.storage, key: toKey(raw.repository.key) }),
    backup: Object.freeze({
      compression: parseCompression(raw.backup?.compression ?? 'zstd:3'),
      workers: raw.backup?.workers ?? null,
      type: raw.backup?.type ?? 'full',
    }),
    agent: toAgent(raw.agent),
    emergency: toEmergency(raw.emergency),
    notifications: toNotifications(raw.notifications, raw.alerts),
    ai: toAi(raw.ai),
  });
}

function toInstance(
  name: string,
  raw: RawConfig['instances'][string],
  watch: RawConfig['watch'],
): InstanceConfig {
  return Object.freeze({
    name,
    engine: raw.engine,
    connection: raw.connection,
    password: raw.password ?? null,
    dataDirectory: raw.data_directory ?? null,
    binaries: raw.binaries ?? null,
    service: toService(raw.service),
    slot: raw.slot ?? null,
    recoveryTimeObjectiveSeconds:
      raw.recovery_time_objective === undefined ? null : parseDuration(raw.recovery_time_objective),
    downtimeCost:
      raw.cost_per_minute === undefined
        ? null
        : Object.freeze({ perMinute: raw.cost_per_minute, currency: raw.currency ?? 'USD' }),
    watch: toWatch(watch, raw.watch),
  });
}

function toEmergency(raw: RawConfig['emergency']): EmergencyConfig {
  return Object.freeze({
    level: raw?.level ?? 'soft',
    controlDatabase: raw?.control_database ?? null,
    maintenanceFile: raw?.maintenance_file ?? null,
    stateDirectory: raw?.state_directory ?? null,
    backup: raw?.backup ?? false,
    hooks: (raw?.hooks ?? []).map(hook =>
      Object.freeze({
        command: hook.command,
        when: hook.when ?? null,
        step: hook.step ?? null,
        timeoutMs: parseDuration(hook.timeout ?? '5s') * 1000,
      }),
    ),
  });
}

function toAgent(raw: RawConfig['agent']): AgentConfig {
  return Object.freeze({
    spool: raw?.spool ?? null,
    spoolLimitBytes: parseSize(raw?.spool_limit ?? '8GB'),
    archiveTimeoutSeconds: parseDuration(raw?.archive_timeout ?? '60s'),
    synchronous: raw?.synchronous ?? false,
    synchronousTimeoutSeconds: parseDuration(raw?.synchronous_timeout ?? '5s'),
  });
}

function toService(raw: RawConfig['instances'][string]['service']): ServiceConfig {
  if (raw === undefined) return Object.freeze({ kind: 'auto' });
  if (raw.kind === 'systemd') return Object.freeze({ kind: 'systemd', unit: raw.unit ?? null });
  return Object.freeze(raw);
}

function toKey(raw: RawConfig['repository']['key']): RepositoryKeyConfig {
  if (raw.file !== undefined) return Object.freeze({ kind: 'file', path: raw.file });
  assert(raw.passphrase !== undefined, 'the configuration has neither a key file nor a passphrase');
  return Object.freeze({ kind: 'passphrase', passphrase: raw.passphrase });
}

/** The instance a command is about: the named one, or the only one. @throws USAGE, INSTANCE_NOT_FOUND */
export function selectInstance(config: Config, name: string | undefined): InstanceConfig {
  const names = [...config.instances.keys()];
  const only = names.length === 1 ? names[0] : undefined;
  const chosen = config.instances.get(name ?? only ?? '');
  if (chosen) return chosen;
  if (name === undefined) {
    throw new AppError(
      'USAGE',
      `unable to choose an instance: '${config.file}' has ${names.length} of them`,
      {
        hint: `Name one with --instance: ${names.join(', ')}.`,
      },
    );
  }
  const near = didYouMean(name, names);
  throw new AppError('INSTANCE_NOT_FOUND', `unable to find the instance '${name}' in '${config.file}'`, {
    hint: near === null ? `It has: ${names.join(', ')}.` : `Did you mean '${near}'?`,
  });
}
