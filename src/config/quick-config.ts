import { hash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';
import type { RawConfig } from './schema.ts';
import { toConfig } from './to-config.ts';

/**
 * Reads a configuration without loading the schema, which takes longer than archiving a segment may. It knows which
 * keys there are and looks at the values that archiving uses; on any doubt it is null, and parseConfig says what is wrong.
 *
 * Reading YAML alone takes 10 ms in a process that has just started, so what was read is kept as JSON in
 * `cacheDirectory` (a folder nobody else can write), under the digest of the text: it cannot be out of date.
 */
export async function quickConfig(
  text: string,
  { file, cacheDirectory }: { readonly file: string; readonly cacheDirectory: string | null },
): Promise<Config | null> {
  try {
    const raw = cacheDirectory === null ? await parseYaml(text) : await cached(text, cacheDirectory);
    return isPlain(raw) ? toConfig(raw, file) : null;
  } catch {
    // Whatever is wrong here, parseConfig finds it again and has the words for it.
    return null;
  }
}

async function parseYaml(text: string): Promise<unknown> {
  const { parse } = await import('yaml');
  return parse(text, { logLevel: 'silent', maxAliasCount: 0 });
}

async function cached(text: string, folder: string): Promise<unknown> {
  const path = join(folder, 'config', `${hash('sha256', text)}.json`);
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    const raw = await parseYaml(text);
    if (isPlain(raw)) keep(path, raw);
    return raw;
  }
}

/** Without a place to keep it in, the next run takes a little longer: nothing that anybody should be told. */
function keep(path: string, raw: RawConfig): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
    writeFileSync(temporary, JSON.stringify(raw), { mode: 0o600, flag: 'wx' });
    renameSync(temporary, path);
  } catch {
    rmSync(temporary, { force: true });
  }
}

const keys = {
  file: [
    ...['version', 'instances', 'repository', 'backup', 'agent', 'watch'],
    ...['emergency', 'notifications', 'alerts', 'ai'],
  ],
  instance: [
    'engine',
    'connection',
    'password',
    'data_directory',
    'binaries',
    'service',
    'recovery_time_objective',
    'cost_per_minute',
    'currency',
    'slot',
    'watch',
  ],
  repository: ['storage', 'key'],
  backup: ['compression', 'workers', 'type'],
  emergency: ['level', 'control_database', 'maintenance_file', 'state_directory', 'backup', 'hooks'],
  agent: ['spool', 'spool_limit', 'archive_timeout', 'synchronous', 'synchronous_timeout'],
} as const;

type Group = Readonly<Record<string, unknown>>;

function isPlain(raw: unknown): raw is RawConfig {
  if (!isGroup(raw, keys.file) || raw.version !== 1) return false;
  const { instances, repository, backup, agent, watch } = raw;
  if (!isGroup(instances) || Object.keys(instances).length === 0) return false;
  if (!Object.entries(instances).every(([name, instance]) => isInstance(name, instance))) return false;
  if (!isGroup(repository, keys.repository) || typeof repository.storage !== 'string') return false;
  if (backup !== undefined && !isBackup(backup)) return false;
  if (agent !== undefined && !isAgent(agent)) return false;
  if (watch !== undefined && !isGroup(watch)) return false;
  if (raw.emergency !== undefined && !isGroup(raw.emergency, keys.emergency)) return false;
  return isKey(repository.key);
}

function isInstance(name: string, value: unknown): boolean {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name) || !isGroup(value, keys.instance)) return false;
  return (
    value.engine === 'postgresql' && typeof value.connection === 'string' && isServiceOrNone(value.service)
  );
}

function isServiceOrNone(value: unknown): boolean {
  return value === undefined || isGroup(value, ['kind', 'unit', 'start', 'stop']);
}

function isKey(value: unknown): boolean {
  if (!isGroup(value, ['file', 'passphrase'])) return false;
  const [only, ...others] = Object.values(value);
  return typeof only === 'string' && others.length === 0;
}

function isBackup(value: unknown): boolean {
  if (!isGroup(value, keys.backup)) return false;
  return value.compression === undefined || typeof value.compression === 'string';
}

/** Of the agent's keys archiving uses the spool alone; the others must not make it fail. */
function isAgent(value: unknown): boolean {
  if (!isGroup(value, keys.agent)) return false;
  const isText = (key: string): boolean => value[key] === undefined || typeof value[key] === 'string';
  return ['spool', 'spool_limit', 'archive_timeout', 'synchronous_timeout'].every(isText);
}

/** A mapping that has no other keys than these. */
function isGroup(value: unknown, known?: readonly string[]): value is Group {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return known === undefined || Object.keys(value).every(key => known.includes(key));
}
