import { statSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';
import { runningServer } from './data-directory.ts';
import type { Service } from './service-contract.ts';
import { START_TIMEOUT_MS, STOP_TIMEOUT_MS, startWith, stopWith } from './service-process.ts';

/** A cluster as Debian's and Ubuntu's postgresql-common knows it, with its configuration in /etc/postgresql. */
export interface DebianCluster {
  readonly version: string;
  readonly name: string;
  readonly owner: string;
  readonly dataDirectory: string;
  readonly logFile: string;
}

/** The server is a Debian cluster: pg_ctlcluster knows its configuration, its log and its environment. */
export function pgCtlClusterService(dataDirectory: string, cluster: DebianCluster): Service {
  const command = (action: string): string[] => ['pg_ctlcluster', cluster.version, cluster.name, action];
  // pg_ctlcluster takes root and the owner; a command with sudo would fail for them where sudo is not installed.
  const allowed = [0, statSync(dataDirectory, { throwIfNoEntry: false })?.uid];
  const sudo = allowed.includes(process.getuid?.()) ? '' : `sudo -u ${cluster.owner} `;
  return {
    kind: 'pg_ctlcluster',
    description: `Debian cluster ${cluster.version}/${cluster.name} (pg_ctlcluster)`,
    isRunning: async () => (await runningServer(dataDirectory)) !== null,
    stop: async (options = {}) =>
      await stopWith(dataDirectory, [...command('stop'), '-m', options.mode ?? 'fast'], {
        timeoutMs: STOP_TIMEOUT_MS,
        ...options,
        doing: `stop the cluster ${cluster.version}/${cluster.name}`,
      }),
    start: async (options = {}) =>
      await startWith(dataDirectory, command('start'), {
        timeoutMs: START_TIMEOUT_MS,
        ...options,
        doing: `start the cluster ${cluster.version}/${cluster.name}`,
      }),
    startCommand: `${sudo}pg_ctlcluster ${cluster.version} ${cluster.name} start`,
    stopCommand: `${sudo}pg_ctlcluster ${cluster.version} ${cluster.name} stop -m fast`,
  };
}

/** The Debian cluster of this directory; null when there is none, or this is no Debian. */
export async function findDebianCluster(dataDirectory: string): Promise<DebianCluster | null> {
  const wanted = await canonical(dataDirectory);
  for (const cluster of await listClusters()) {
    if ((await canonical(cluster.dataDirectory)) === wanted) return cluster;
  }
  return null;
}

async function listClusters(): Promise<DebianCluster[]> {
  try {
    return parseClusterList(
      (await runCommand(['pg_lsclusters', '--no-header'], { timeoutMs: 30_000 })).stdout,
    );
  } catch (error) {
    if (error instanceof AppError && error.code === 'PROGRAM_NOT_FOUND') return [];
    throw error;
  }
}

/** Takes the lines of pg_lsclusters apart: version, name, port, status, owner, data directory, log. @source pg_lsclusters(1) */
export function parseClusterList(text: string): DebianCluster[] {
  return text.split('\n').flatMap(line => {
    const match = /^(\S+)\s+(\S+)\s+\d+\s+\S+\s+(\S+)\s+(\/.*?)\s+(\S+)\s*$/.exec(line);
    if (!match) return [];
    const [, version, name, owner, dataDirectory, logFile] = match;
    return [
      { version: version!, name: name!, owner: owner!, dataDirectory: dataDirectory!, logFile: logFile! },
    ];
  });
}

async function canonical(path: string): Promise<string> {
  return await realpath(path).catch(() => resolve(path));
}
