import { execFile } from 'node:child_process';
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
 * Fetches a secret; one line end at its close is not part of it.
 * @throws SECRET_UNAVAILABLE not set, missing, empty, the command failed
 * @throws SECRET_EXPOSED the file can be read by everybody
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
    await using file = await open(path, 'r');
    const { mode, size } = await file.stat();
    if ((mode & 0o007) !== 0) {
      throw new AppError(
        'SECRET_EXPOSED',
        `unable to use the secret file '${path}': every user of this machine can access it`,
        {
          hint: `Run: chmod 600 '${path}'`,
        },
      );
    }
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
