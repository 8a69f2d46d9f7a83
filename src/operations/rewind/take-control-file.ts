import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError } from '../../base/errors.ts';
import { runningServer } from '../../engines/postgres/data-directory.ts';
import { holdControlFile, placeControlFile } from './guard.ts';
import { heldControlFile, keptPlace, type Places } from './places.ts';
import { CONTROL_FILE } from './rewind-work.ts';
import { moveAside } from './safety-copy.ts';

/** The hash of the live control file: it is another once a server has run. */
export async function hashControlFile({ dataDirectory }: Pick<Places, 'dataDirectory'>): Promise<string> {
  return await hashOf(join(dataDirectory, CONTROL_FILE));
}

/**
 * Puts the control file aside: from here on no server starts. What was decided is worth nothing once a server has run since,
 * as where something starts it again by itself whenever it is stopped, and the files of a server that runs are never touched.
 *
 * @throws TARGET_RUNNING
 */
export async function takeControlFile(places: Places, expectedHash: string): Promise<void> {
  await refuseRunning(places);
  await moveAside(places, CONTROL_FILE);
  // A server writes its lock file before it reads its control file, so one that has just read it is seen now.
  await refuseRunning(places);
  if ((await hashOf(keptPlace(places, CONTROL_FILE))) !== expectedHash) throw startedMeanwhile();
}

/** The same of a rewound server that is given up: its control file is held back. @throws TARGET_RUNNING */
export async function holdUsedControlFile(places: Places, expectedHash: string): Promise<void> {
  await refuseRunning(places);
  await holdControlFile(places);
  try {
    await refuseRunning(places);
    if ((await hashOf(heldControlFile(places))) !== expectedHash) throw startedMeanwhile();
  } catch (error) {
    await placeControlFile(places);
    throw error;
  }
}

async function refuseRunning({ dataDirectory }: Places): Promise<void> {
  if ((await runningServer(dataDirectory)) !== null) throw startedAgain('it is running again');
}

function startedMeanwhile(): AppError {
  return startedAgain('it was started while its log was read');
}

function startedAgain(what: string): AppError {
  return new AppError('TARGET_RUNNING', `unable to change the files of the live server: ${what}`, {
    hint: 'Keep whatever starts it by itself (a supervisor, a cluster manager) from doing so, then run the same command again.',
  });
}

async function hashOf(path: string): Promise<string> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  return hash('sha256', bytes, 'hex');
}
