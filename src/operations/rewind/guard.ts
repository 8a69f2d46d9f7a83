import { copyFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import { type ControlFile, readControlFile } from '../../engines/postgres/control-file.ts';
import { settingLine } from '../../engines/postgres/recovery-settings.ts';
import { writeOwned } from '../restore/assemble-directory.ts';
import type { Owner } from '../restore/new-files.ts';
import { moveFile, renameDurably } from './durable-files.ts';
import { heldControlFile, keptPlace, livePlace, type Places } from './places.ts';
import { exists } from './safety-copy.ts';

const CONTROL_FILE = 'global/pg_control';
const SETTINGS = 'postgresql.auto.conf';
const OPTIONS = 'postmaster.opts';

/**
 * Keeps every server but ours from starting in a directory that is being recovered. A recovery needs its control file, so
 * that cannot be away meanwhile. Instead the settings name a library that does not exist, by a name that says what to do: our
 * server sets its own libraries on its command line, where they win.
 *
 * Should somebody start it with libraries of his own all the same, it would find a signal file and a target, and stop there.
 */
export async function guardDirectory(
  places: Places,
  facts: { readonly targetLsn: string; readonly owner: Owner },
): Promise<void> {
  const settings = {
    shared_preload_libraries: '"aishell: a rewind is not finished, run: aishell backup restore --resume"',
    recovery_target_lsn: facts.targetLsn,
    recovery_target_inclusive: 'off',
    recovery_target_action: 'shutdown',
  };
  const lines = Object.entries(settings).map(([name, value]) => settingLine(name, value));
  const text = `# aishell: a rewind of this directory is not finished; the settings before it are in the safety copy\n${lines.join('\n')}\n`;
  await writeOwned(livePlace(places, SETTINGS), text, facts.owner);
}

/** Brings back the settings made by ALTER SYSTEM, and what the server was started with. */
export async function unguardDirectory(places: Places): Promise<void> {
  for (const path of [SETTINGS, OPTIONS]) await bringBack(places, path);
  await syncDirectory(places.dataDirectory);
}

/** Lets whoever looks how to start the server see it: an isolated server leaves its own options. */
export async function showOptions(places: Places): Promise<void> {
  const kept = keptPlace(places, OPTIONS);
  if (await exists(kept)) await copyFile(kept, livePlace(places, OPTIONS));
}

async function bringBack(places: Places, path: string): Promise<void> {
  const kept = keptPlace(places, path);
  if (await exists(kept)) await moveFile(kept, livePlace(places, path));
}

/** Takes the control file of the recovered, stopped database away, until everything else is on the disk. */
export async function holdControlFile(places: Places): Promise<ControlFile> {
  const control = await readControlFile(places.dataDirectory);
  try {
    await rename(join(places.dataDirectory, CONTROL_FILE), heldControlFile(places));
  } catch (error) {
    throw fileError('hold back', join(places.dataDirectory, CONTROL_FILE), error);
  }
  return control;
}

/** Durable when it resolves; fine when it is there already. */
export async function placeControlFile(places: Places): Promise<void> {
  if (await exists(heldControlFile(places)))
    await renameDurably(heldControlFile(places), join(places.dataDirectory, CONTROL_FILE));
}
