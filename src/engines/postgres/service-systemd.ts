import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { AppError } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';
import { runningServer } from './data-directory.ts';
import type { Service } from './service-contract.ts';
import { START_TIMEOUT_MS, STOP_TIMEOUT_MS, startWith, stopWith } from './service-process.ts';

/** The server is a systemd unit: started otherwise, systemd would not know of it. A stop is as fast as the unit says. */
export function systemdService(dataDirectory: string, unit: string): Service {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return {
    kind: 'systemd',
    description: `systemd unit ${unit}`,
    isRunning: async () => (await runningServer(dataDirectory)) !== null,
    stop: async (options = {}) =>
      await stopWith(dataDirectory, ['systemctl', 'stop', unit], {
        timeoutMs: STOP_TIMEOUT_MS,
        ...options,
        doing: `stop the systemd unit ${unit}`,
      }),
    start: async (options = {}) =>
      await startWith(dataDirectory, ['systemctl', 'start', unit], {
        timeoutMs: START_TIMEOUT_MS,
        ...options,
        doing: `start the systemd unit ${unit}`,
      }),
    startCommand: `${sudo}systemctl start ${unit}`,
    stopCommand: `${sudo}systemctl stop ${unit}`,
  };
}

/**
 * The systemd unit that runs the server of this directory: of a running server the one its process belongs to, of a
 * stopped one the one whose definition names the directory. Null when there is none, or systemd does not run here.
 */
export async function findUnit(dataDirectory: string): Promise<string | null> {
  // The documented way to ask whether systemd is what booted the machine. @source sd_booted(3)
  if (!existsSync('/run/systemd/system')) return null;
  const server = await runningServer(dataDirectory);
  if (server !== null)
    return unitOfCgroup(await readFile(`/proc/${server.pid}/cgroup`, 'utf8').catch(() => ''));
  try {
    const files = await runCommand(
      ['systemctl', 'list-unit-files', '--no-legend', '--type=service', '*postgres*'],
      { timeoutMs: 30_000 },
    );
    const units = files.stdout
      .split('\n')
      .map(line => line.trim().split(/\s+/)[0] ?? '')
      .filter(unit => /^[^@]*\.service$/.test(unit));
    if (units.length === 0) return null;
    const shown = await runCommand(['systemctl', 'show', '--property=Id,Environment,ExecStart', ...units], {
      timeoutMs: 30_000,
    });
    return unitForDirectory(shown.stdout, dataDirectory);
  } catch (error) {
    if (error instanceof AppError) return null;
    throw error;
  }
}

/**
 * The system's service unit in a process's control groups; null for a login session or a user's own services, which
 * systemctl would not find.
 *
 * @source proc_pid_cgroup(5), systemd.slice(5)
 */
export function unitOfCgroup(text: string): string | null {
  for (const line of text.split('\n')) {
    const match = /^(?:0:|\d+:name=systemd):(.*)$/.exec(line);
    const parts = (match?.[1] ?? '').split('/').filter(part => part !== '');
    if (parts[0] !== 'system.slice') continue;
    const unit = parts.findLast(part => part.endsWith('.service'));
    if (unit !== undefined) return unit;
  }
  return null;
}

/** Among the answers of `systemctl show`, the unit whose command or PGDATA names the directory. */
export function unitForDirectory(shown: string, dataDirectory: string): string | null {
  const directory = dataDirectory.replace(/\/+$/, '');
  const escaped = directory.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const named = new RegExp(
    `(?:^Environment=(?:.*\\s)?"?PGDATA=|^ExecStart=.*[\\s=])${escaped}/?(?:["\\s;]|$)`,
    'm',
  );
  for (const block of shown.split(/\n\s*\n/)) {
    const id = /^Id=(.+)$/m.exec(block)?.[1];
    if (id !== undefined && named.test(block)) return id;
  }
  return null;
}
