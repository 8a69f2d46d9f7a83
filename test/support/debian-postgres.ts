import { existsSync } from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { inject, type TestContext } from 'vitest';
import { runCommand } from '../../src/base/run-command.ts';

/** Debian's PostgreSQL 15, to compare with its pg_waldump and others that the embedded servers come without. */
export type DebianPostgres =
  /** Where its programs are. */
  { readonly directory: string } | { readonly missing: string };

const DIRECTORY = '/usr/lib/postgresql/15/bin';
const CREATE_CLUSTER_SETTINGS = '/etc/postgresql-common/createcluster.conf';

/** Looks for it, and installs it where that is possible: as root, on a Debian that has it. No server is started. */
export async function prepareDebianPostgres(): Promise<DebianPostgres> {
  if (existsSync(`${DIRECTORY}/pg_waldump`)) return { directory: DIRECTORY };
  const needs = "needs Debian's postgresql-15";
  if (process.geteuid?.() !== 0) return { missing: `${needs}, which only root can install` };
  if (!existsSync('/usr/bin/apt-get')) return { missing: `${needs}, and there is no apt-get` };
  const steps = [
    () => apt('update', '-q'),
    () => install('postgresql-common'),
    () => appendFile(CREATE_CLUSTER_SETTINGS, '\ncreate_main_cluster = false\n'),
    () => install('postgresql-15'),
  ];
  try {
    for (const step of steps) await step();
  } catch (error) {
    return { missing: `${needs}, which could not be installed: ${String(error)}` };
  }
  return existsSync(`${DIRECTORY}/pg_waldump`)
    ? { directory: DIRECTORY }
    : { missing: `${needs}, which has no pg_waldump` };
}

/** The path of one of its programs; without it the test is skipped, with the reason. */
export function debianProgram(context: TestContext, name: string): string {
  const { debian } = inject('harness');
  return 'missing' in debian ? context.skip(debian.missing) : `${debian.directory}/${name}`;
}

async function install(name: string): Promise<void> {
  await apt('install', '-y', '-q', '--no-install-recommends', name);
}

async function apt(...args: string[]): Promise<void> {
  const wait = ['-o', 'DPkg::Lock::Timeout=120'];
  const { exitCode, stderr } = await runCommand(['apt-get', ...wait, ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    timeoutMs: 300_000,
  });
  if (exitCode !== 0) throw new Error(`apt-get ${args[0]}: ${stderr.trim().split('\n').at(-1)}`);
}
