import { AppError } from '../../base/errors.ts';
import { runningServer } from './data-directory.ts';
import { commandsService } from './service-commands.ts';
import type { Service, ServiceSetting } from './service-contract.ts';
import { findDebianCluster, pgCtlClusterService } from './service-debian.ts';
import { pgCtlService } from './service-pg-ctl.ts';
import { findUnit, systemdService } from './service-systemd.ts';

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
