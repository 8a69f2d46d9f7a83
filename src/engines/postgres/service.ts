import { AppError } from '../../base/errors.ts';
import { runningServer } from './data-directory.ts';
import { commandsService } from './service-commands.ts';
import { findDebianCluster, pgCtlClusterService } from './service-debian.ts';
import { pgCtlService } from './service-pg-ctl.ts';
import { findUnit, systemdService } from './service-systemd.ts';

/** How the configuration says the server is started and stopped; `auto`: found out from the server and the machine. */
export type ServiceSetting =
  | { readonly kind: 'auto' | 'pg_ctl' | 'pg_ctlcluster' }
  /** `unit` null: the one that the running server belongs to. */
  | { readonly kind: 'systemd'; readonly unit: string | null }
  /** Run by the shell. */
  | { readonly kind: 'commands'; readonly start: string; readonly stop: string };

export interface StopOptions {
  /** `fast` (unless given): clients are disconnected, then a checkpoint is written. `immediate`: as if it crashed. */
  readonly mode?: 'fast' | 'immediate';
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface StartOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** What starts and stops the server of one data directory. */
export interface Service {
  readonly kind: 'pg_ctl' | 'pg_ctlcluster' | 'systemd' | 'commands';
  /** For people: `systemd unit postgresql@15-main.service`. */
  readonly description: string;
  /** Whether a server runs in the data directory, whoever started it. */
  isRunning(): Promise<boolean>;
  /** Resolves when the server is gone; fine when it was not running. @throws SERVICE_FAILED TIMEOUT */
  stop(options?: StopOptions): Promise<void>;
  /** Resolves when the server takes connections, or is a standby that takes none; fine when it was running. @throws SERVICE_FAILED TIMEOUT */
  start(options?: StartOptions): Promise<void>;
  /** What a person would paste into a shell. */
  readonly startCommand: string;
  readonly stopCommand: string;
}

export interface DetectOptions {
  readonly setting?: ServiceSetting;
  /** The directory of postgres and pg_ctl; looked for unless given. */
  readonly binaries?: string | null;
  /** True when a connection to the server of this directory has been made. */
  readonly serverAnswers?: boolean;
}

/**
 * Finds what runs the server of a data directory: the configured way; else the systemd unit that its process belongs to;
 * else Debian's pg_ctlcluster where it knows the directory; else pg_ctl, with the options and environment that the server
 * was started with. Ask while the server still runs, or at least before its directory is moved: they are taken from there.
 *
 * @throws SERVICE_UNKNOWN what was configured does not fit, or the server runs where this program cannot reach it
 * @throws PROGRAM_NOT_FOUND FILE_FAILED
 */
export async function detectService(dataDirectory: string, options: DetectOptions = {}): Promise<Service> {
  const setting = options.setting ?? { kind: 'auto' };
  if (setting.kind === 'commands') return commandsService(dataDirectory, setting);
  if (options.serverAnswers === true && (await runningServer(dataDirectory)) === null) {
    throw new AppError(
      'SERVICE_UNKNOWN',
      `unable to find the server of '${dataDirectory}' among the processes of this machine`,
      {
        hint: "It answers, so it runs in a container or elsewhere: set the instance's service to kind: commands, with how to start and stop it.",
      },
    );
  }
  if (setting.kind === 'systemd')
    return systemdService(dataDirectory, await configuredUnit(dataDirectory, setting.unit));
  if (setting.kind === 'pg_ctlcluster') return await debianService(dataDirectory);
  if (setting.kind === 'pg_ctl') return await pgCtlService(dataDirectory, options.binaries ?? null);
  const unit = await findUnit(dataDirectory);
  if (unit !== null) return systemdService(dataDirectory, unit);
  const cluster = await findDebianCluster(dataDirectory);
  if (cluster !== null) return pgCtlClusterService(dataDirectory, cluster);
  return await pgCtlService(dataDirectory, options.binaries ?? null);
}

async function configuredUnit(dataDirectory: string, configured: string | null): Promise<string> {
  const unit = configured ?? (await findUnit(dataDirectory));
  if (unit !== null) return unit;
  throw new AppError('SERVICE_UNKNOWN', `unable to find the systemd unit of '${dataDirectory}'`, {
    hint: "Name it: set the instance's service to {kind: systemd, unit: postgresql@15-main.service}.",
  });
}

async function debianService(dataDirectory: string): Promise<Service> {
  const cluster = await findDebianCluster(dataDirectory);
  if (cluster !== null) return pgCtlClusterService(dataDirectory, cluster);
  throw new AppError(
    'SERVICE_UNKNOWN',
    `unable to find the cluster of '${dataDirectory}' among those of pg_lsclusters`,
    {
      hint: "Set the instance's service to kind: pg_ctl, systemd or commands.",
    },
  );
}
