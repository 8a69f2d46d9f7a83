import { randomBytes } from 'node:crypto';
import { chown, mkdir, readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { AppError, fileError, systemCode } from '../base/errors.ts';
import type { OnEvent } from '../base/events.ts';
import { runStep } from '../base/events.ts';
import { resolveSecretRef } from '../base/secret.ts';
import type { Config } from '../config/config.ts';
import { parseConfig } from '../config/parse-config.ts';
import { newConfigText, replaceFile, withInstance, writeNewFile } from '../config/write-config.ts';
import { newKeyFile, parseKeyFile, type SlotSecret } from '../crypto/key-slots.ts';
import { withConnection } from '../engines/postgres/connection.ts';
import { localUrl } from '../engines/postgres/connection-target.ts';
import { readServerFacts, type ServerFacts } from '../engines/postgres/server-facts.ts';
import { archivingOf } from '../operations/server-picture.ts';
import { putIdentity } from '../repository/identity.ts';
import { checkInstanceName } from '../repository/layout.ts';
import { probeStorage } from '../repository/probe.ts';
import {
  createRepository,
  openRepository,
  type Repository,
  repositoryExistsAt,
} from '../repository/repository.ts';
import { openStorage, parseStorageLocation } from '../storage/registry.ts';
import type { Storage } from '../storage/storage.ts';
import { connectionOf } from './open-instance.ts';
import { readRepositoryKey } from './open-repository.ts';

export interface InitRequest {
  /** postgresql:// URL; null: the local server. */
  readonly url: string | null;
  /** Null: /var/backups/aishell for root, ~/aishell-backups for others. */
  readonly storage: string | null;
  readonly name: string | null;
  /** Absolute; null: /etc/aishell/aishell.yaml for root, ~/.config/aishell/aishell.yaml for others. */
  readonly configFile: string | null;
  /** A secret reference to the server's password. */
  readonly password: string | null;
  /** A secret reference: this passphrase opens the repository instead of a key file and a generated recovery passphrase. */
  readonly passphrase: string | null;
  /** How the server calls this program: the absolute path of `bin/aishell`. */
  readonly programPath: string;
  readonly schemaPath: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface InitResult {
  readonly instance: string;
  readonly configFile: string;
  readonly storage: string;
  readonly repositoryId: string;
  readonly repositoryCreated: boolean;
  readonly keyFile: string | null;
  /** Shown once and kept nowhere: the second way to open the repository. Null when it exists already or has a passphrase of the user's. */
  readonly recoveryPassphrase: string | null;
  readonly serverVersion: string;
  readonly systemIdentifier: string;
  readonly archiving: 'on' | 'off' | 'elsewhere';
  readonly restartNeeded: boolean;
  /** SQL that turns archiving on, to be run as a superuser; a restart is needed where archive_mode was off. */
  readonly archiveSql: readonly string[];
}

/**
 * Makes a repository, its keys and aishell.yaml for an instance, or adds an instance to those there are.
 *
 * @throws EXISTS, DATABASE_UNREACHABLE, KEY_WRONG, STORAGE_DENIED, …; what was written before a failure can be used again
 */
export async function initInstance(
  request: InitRequest,
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<InitResult> {
  const { onEvent, signal } = options;
  const name = checkInstanceName(request.name ?? 'production');
  const configFile = request.configFile ?? defaultConfigFile();
  const text = await readIfThere(configFile);
  const config = text === null ? null : parseConfig(text, configFile);
  const newInstance = {
    name,
    connection: request.url ?? localUrl(request.env),
    password: request.password,
  };
  const changedText = text === null ? null : withInstance(text, newInstance);
  const facts = await runStep(
    onEvent,
    {
      id: 'server',
      title: 'Server found',
      detail: found => `PostgreSQL ${found.version}, ${found.dataDirectory}`,
    },
    () => askServer({ ...newInstance, env: request.env }, signal),
  );
  const owner = await serverOwner(facts.dataDirectory);
  const location = resolveStorage(config, request.storage);
  const storage = openStorage(parseStorageLocation(location), request.env);
  await makeLocalRoot(location, owner);
  await runStep(
    onEvent,
    {
      id: 'storage',
      title: 'Storage can be written and refuses to overwrite',
      detail: () => storage.description,
    },
    () => probeStorage(storage),
  );
  const keyFile =
    request.passphrase === null && config === null ? join(dirname(configFile), 'aishell.key') : null;
  const opened = await runStep(
    onEvent,
    { id: 'repository', title: 'Repository ready', detail: made => (made.created ? 'created' : 'exists') },
    () => openOrCreate({ storage, config, keyFile, owner, request }),
  );
  await putIdentity(opened.repository, {
    instance: name,
    engine: 'postgresql',
    systemIdentifier: facts.systemIdentifier,
    serverVersion: facts.versionNumber,
    created: new Date().toISOString(),
  });
  if (changedText !== null) await replaceFile(configFile, changedText, { mode: 0o644, owner });
  else {
    const key = keyFile === null ? { passphrase: request.passphrase ?? '' } : { file: keyFile };
    const first = newConfigText({
      instance: newInstance,
      storage: location,
      key,
      schema: request.schemaPath,
    });
    await writeNewFile(configFile, first, { mode: 0o644, owner });
  }
  return {
    instance: name,
    configFile,
    storage: storage.description,
    repositoryId: opened.repository.id,
    repositoryCreated: opened.created,
    keyFile,
    recoveryPassphrase: opened.recoveryPassphrase,
    serverVersion: facts.version,
    systemIdentifier: facts.systemIdentifier,
    archiving: archivingOf(facts),
    restartNeeded: facts.archiveMode === 'off',
    archiveSql: archiveSql(facts, { ...request, configFile, name }),
  };
}

/** The statements that make a server archive into the repository. */
export function archiveSql(
  facts: Pick<ServerFacts, 'archiveMode'>,
  target: { readonly programPath: string; readonly configFile: string; readonly name: string },
): string[] {
  // archive_command goes through a shell, the statement through SQL: each wants its own quoting.
  const shell = (word: string): string =>
    /^[A-Za-z0-9_./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
  // A literal % in a path would be taken for one of PostgreSQL's placeholders.
  const command = `${[target.programPath, '--config', target.configFile, '--instance', target.name].map(word => shell(word).replaceAll('%', '%%')).join(' ')} backup wal-archive %p`;
  const sql = [
    `ALTER SYSTEM SET archive_command = '${command.replaceAll("'", "''")}'`,
    "ALTER SYSTEM SET archive_timeout = '60s'",
  ];
  return facts.archiveMode === 'off'
    ? ['ALTER SYSTEM SET archive_mode = on', ...sql]
    : [...sql, 'SELECT pg_reload_conf()'];
}

type Owner = { readonly uid: number; readonly gid: number } | null;

interface Opened {
  readonly repository: Repository;
  readonly created: boolean;
  readonly recoveryPassphrase: string | null;
}

async function openOrCreate(target: {
  readonly storage: Storage;
  readonly config: Config | null;
  readonly keyFile: string | null;
  readonly owner: Owner;
  readonly request: InitRequest;
}): Promise<Opened> {
  const { storage, config, request } = target;
  const given: SlotSecret | null =
    request.passphrase === null
      ? null
      : {
          kind: 'passphrase',
          passphrase: (await resolveSecretRef(request.passphrase, { env: request.env })).reveal(),
        };
  if (await repositoryExistsAt(storage)) {
    const secret =
      config === null ? given : await readRepositoryKey(config.repository.key, { env: request.env });
    if (secret === null) {
      throw new AppError('EXISTS', `there is a repository already at ${storage.description}`, {
        hint: 'To use it, give what opens it: `--passphrase env:NAME`, or `--config` with its aishell.yaml. Or choose another --storage.',
      });
    }
    return { repository: await openRepository(storage, secret), created: false, recoveryPassphrase: null };
  }
  if (config !== null) {
    const secret = await readRepositoryKey(config.repository.key, { env: request.env });
    return {
      repository: await createRepository(storage, [{ secret, label: 'configured' }]),
      created: true,
      recoveryPassphrase: null,
    };
  }
  if (given !== null || target.keyFile === null) {
    return {
      repository: await createRepository(storage, [{ secret: given as SlotSecret, label: 'passphrase' }]),
      created: true,
      recoveryPassphrase: null,
    };
  }
  const keyText = newKeyFile();
  await writeNewFile(target.keyFile, keyText, { mode: 0o600, owner: target.owner });
  const recoveryPassphrase = newPassphrase();
  const repository = await createRepository(storage, [
    { secret: parseKeyFile(keyText, target.keyFile), label: 'key file' },
    { secret: { kind: 'passphrase', passphrase: recoveryPassphrase }, label: 'recovery kit' },
  ]);
  return { repository, created: true, recoveryPassphrase };
}

/** 200 random bits, in letters and digits that are not taken for each other. */
function newPassphrase(): string {
  const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
  const symbols = [...randomBytes(40)].map(byte => alphabet[byte & 31]);
  return Array.from({ length: 8 }, (_, group) => symbols.slice(group * 5, group * 5 + 5).join('')).join('-');
}

async function askServer(
  instance: {
    readonly name: string;
    readonly connection: string;
    readonly password: string | null;
    readonly env: NodeJS.ProcessEnv;
  },
  signal: AbortSignal,
): Promise<ServerFacts> {
  const settings = connectionOf(instance, instance.env);
  return await withConnection(settings, { signal }, client => readServerFacts(client, signal));
}

function defaultConfigFile(): string {
  return process.getuid?.() === 0
    ? '/etc/aishell/aishell.yaml'
    : join(homedir(), '.config', 'aishell', 'aishell.yaml');
}

function resolveStorage(config: Config | null, given: string | null): string {
  if (config !== null) {
    if (given === null || given === config.repository.storage) return config.repository.storage;
    throw new AppError(
      'USAGE',
      `unable to use storage '${given}': the configuration has '${config.repository.storage}'`,
      {
        hint: 'Leave out --storage, or make another configuration with --config.',
      },
    );
  }
  if (given === null)
    return process.getuid?.() === 0 ? '/var/backups/aishell' : join(homedir(), 'aishell-backups');
  return given.includes('://') || isAbsolute(given) ? given : resolve(given);
}

/** The user the server runs as: what root makes is given to it, or archive_command could not use it. */
async function serverOwner(dataDirectory: string): Promise<Owner> {
  if (process.getuid?.() !== 0) return null;
  try {
    const { uid, gid } = await stat(dataDirectory);
    return { uid, gid };
  } catch {
    return null;
  }
}

/** A directory that root makes for the repository belongs to the server's user; one that is there is left as it is. */
async function makeLocalRoot(location: string, owner: Owner): Promise<void> {
  if (owner === null || !isAbsolute(location)) return;
  const made = await mkdir(location, { recursive: true, mode: 0o700 });
  if (made !== undefined) await chown(location, owner.uid, owner.gid);
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}
