import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { inspect, promisify } from 'node:util';
import { AppError, messageOf, systemCode } from './errors.ts';

/** Where a secret is kept. The secret itself never stands in a configuration file or on a command line. */
export type SecretReference =
  | { readonly kind: 'env'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'command'; readonly command: string };

const largestSecretBytes = 64 * 1024;
const commandTimeoutMs = 30_000;

/** A text that prints as `[redacted]` wherever it turns up: in logs, JSON, errors, `console.log`. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself, for the one call that needs it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '[redacted]';
  }

  toJSON(): string {
    return '[redacted]';
  }

  [inspect.custom](): string {
    return '[redacted]';
  }
}

/** Reads `env:NAME`, `file:PATH` (absolute) or `command:…`; null when the text is none of these. */
export function parseSecretReference(text: string): SecretReference | null {
  const match = /^(env|file|command):(.+)$/s.exec(text);
  const rest = match?.[2]?.trim() ?? '';
  if (match?.[1] === 'env' && /^[A-Za-z_][A-Za-z0-9_]*$/.test(rest)) return { kind: 'env', name: rest };
  if (match?.[1] === 'file' && rest.startsWith('/')) return { kind: 'file', path: rest };
  if (match?.[1] === 'command' && rest !== '') return { kind: 'command', command: rest };
  return null;
}

/** The text {@link parseSecretReference} reads. */
export function formatSecretReference(reference: SecretReference): string {
  if (reference.kind === 'env') return `env:${reference.name}`;
  return reference.kind === 'file' ? `file:${reference.path}` : `command:${reference.command}`;
}

/**
 * Fetches the secret a text refers to, as {@link parseSecretReference} and {@link readSecret} in one.
 * @throws SECRET_EXPOSED the text is no reference, so it may be the secret itself: the message does not repeat it
 * @throws SECRET_UNAVAILABLE as {@link readSecret}
 */
export async function resolveSecretRef(
  text: string,
  options: { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal } = {},
): Promise<Secret> {
  const reference = parseSecretReference(text);
  if (reference !== null) return await readSecret(reference, options);
  throw new AppError('SECRET_EXPOSED', 'unable to take a secret that is written out', {
    hint: 'Give it as env:NAME, file:/ABSOLUTE/PATH or command:…, and change it if others could have read it.',
  });
}

/**
 * Fetches a secret; one line end at its close is not part of it.
 * @throws SECRET_UNAVAILABLE not set, missing, empty, the command failed
 * @throws SECRET_EXPOSED the file can be read or changed by others
 */
export async function readSecret(
  reference: SecretReference,
  options: { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal } = {},
): Promise<Secret> {
  const text = (await fetchText(reference, options)).replace(/\r?\n$/, '');
  if (text !== '') return new Secret(text);
  throw new AppError(
    'SECRET_UNAVAILABLE',
    `unable to read the secret '${formatSecretReference(reference)}': it is empty`,
  );
}

async function fetchText(
  reference: SecretReference,
  { env = process.env, signal }: { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal },
): Promise<string> {
  if (reference.kind === 'file') return await readSecretFile(reference.path);
  if (reference.kind === 'env') {
    const value = env[reference.name];
    if (value !== undefined) return value;
    throw new AppError(
      'SECRET_UNAVAILABLE',
      `unable to read the secret 'env:${reference.name}': the variable is not set`,
      {
        hint: `Set it for this program, e.g. read it without echo: read -rs ${reference.name}; export ${reference.name}`,
      },
    );
  }
  try {
    // Loaded only here: it takes 4 ms of the start-up that archiving a log segment has.
    const { execFile } = await import('node:child_process');
    const run = promisify(execFile);
    const { stdout } = await run('/bin/sh', ['-c', reference.command], {
      env,
      timeout: commandTimeoutMs,
      maxBuffer: largestSecretBytes,
      ...(signal === undefined ? {} : { signal }),
    });
    return stdout;
  } catch (error) {
    signal?.throwIfAborted();
    // execFile's own message repeats the command and its output, which may hold the secret: only how it ended is told.
    const ended =
      typeof error === 'object' && error !== null && 'code' in error
        ? `it ended with ${String(error.code)}`
        : 'it took too long';
    throw new AppError(
      'SECRET_UNAVAILABLE',
      `unable to read a secret from the command '${reference.command}': ${ended}`,
      {
        hint: 'Run the command by hand as the same user; the secret must be all it prints.',
      },
    );
  }
}

async function readSecretFile(path: string): Promise<string> {
  try {
    // Not blocking, so that a named pipe in its place cannot hang the program.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) {
      throw new AppError(
        'SECRET_UNAVAILABLE',
        `unable to read the secret file '${path}': it is no regular file`,
      );
    }
    if (othersCanUse(stat)) {
      throw new AppError(
        'SECRET_EXPOSED',
        `unable to use the secret file '${path}': other users can read or change it`,
        {
          hint: `Run: chmod 600 '${path}'`,
        },
      );
    }
    const { size } = stat;
    if (size > largestSecretBytes) {
      throw new AppError(
        'SECRET_UNAVAILABLE',
        `unable to read the secret file '${path}': it is ${size} bytes long`,
      );
    }
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof AppError) throw error;
    const why =
      { ENOENT: 'there is no such file', EACCES: 'permission denied' }[systemCode(error)] ?? messageOf(error);
    throw new AppError('SECRET_UNAVAILABLE', `unable to read the secret file '${path}': ${why}`, {
      hint: 'It must exist and be readable by the user that runs aishell.',
      cause: error,
    });
  }
}

/**
 * Only the owner may have rights, and the group may read what root owns: an administrator's way to give a secret to one
 * service user. PostgreSQL judges its own key files so.
 * @source PostgreSQL, src/backend/libpq/be-secure-common.c, check_ssl_key_file_permissions
 */
function othersCanUse({ mode, uid }: Stats): boolean {
  return (mode & (uid === 0 ? 0o037 : 0o077)) !== 0;
}
