import { accessSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AppError, systemCode } from '../base/errors.ts';

export interface ConfigSearch {
  /** `--config`. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

/** Where a configuration file is looked for, in order, when neither `--config` nor AISHELL_CONFIG names one. */
export function configPlaces({ env, cwd }: ConfigSearch): readonly string[] {
  const home = env.HOME;
  return [
    join(cwd, 'aishell.yaml'),
    ...(home === undefined || home === '' ? [] : [join(home, '.config', 'aishell', 'aishell.yaml')]),
    '/etc/aishell/aishell.yaml',
  ];
}

/**
 * The absolute path of the file to use. A file that is named is taken, whether it exists or not.
 *
 * @throws CONFIG none found, or the one in the current directory is another user's
 */
export function findConfigFile(search: ConfigSearch): string {
  const named = search.file ?? (search.env.AISHELL_CONFIG || undefined);
  if (named !== undefined) return resolve(search.cwd, named);
  const places = configPlaces(search);
  for (const place of places) {
    try {
      accessSync(place);
      if (place === places[0]) checkOwner(place, search.env);
      return place;
    } catch (error) {
      if (error instanceof AppError) throw error;
      // A file that is there but cannot be read is found: reading it then says why, instead of using another one.
      if (!['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return place;
    }
  }
  throw new AppError('CONFIG', `unable to find a configuration: there is none at ${places.join(', ')}`, {
    hint: "Run 'aishell backup init' to create one, or name one with --config.",
  });
}

/**
 * A configuration names commands that are run. Whoever works in a directory that others can write to must not run theirs
 * without having named the file; least of all as root.
 */
function checkOwner(place: string, { SUDO_UID }: NodeJS.ProcessEnv): void {
  const own = process.geteuid?.();
  const { uid } = statSync(place);
  const isTrusted = own === undefined || uid === own || uid === 0 || (own === 0 && String(uid) === SUDO_UID);
  if (isTrusted) return;
  throw new AppError(
    'CONFIG',
    `unable to trust the configuration '${place}', which was found in the current directory: it belongs to another user`,
    {
      hint: `If it is the right one, name it: --config '${place}'. Otherwise run aishell in another directory.`,
    },
  );
}
