import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { addRun, type RecoveryWork, type SpeedRecord } from './recovery-speed.ts';

/** What was measured on this machine for an instance; null when nothing is, or it cannot be read. */
export async function readSpeeds(
  stateDirectory: string | null,
  instance: string,
): Promise<SpeedRecord | null> {
  if (stateDirectory === null) return null;
  try {
    return checkRecord(JSON.parse(await readFile(fileOf(stateDirectory, instance), 'utf8')));
  } catch {
    // A lost or damaged record costs exactness until the next recovery, and nothing else.
    return null;
  }
}

/** Adds a run to what is measured. Where it cannot be kept, the next estimate says that it is a guess. */
export async function recordSpeeds(
  stateDirectory: string | null,
  instance: string,
  run: RecoveryWork,
): Promise<void> {
  if (stateDirectory === null) return;
  const path = fileOf(stateDirectory, instance);
  const aside = `${path}.${randomBytes(4).toString('hex')}`;
  const record = addRun(await readSpeeds(stateDirectory, instance), run, new Date());
  try {
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
    await writeFile(aside, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(aside, path);
  } catch {
    await rm(aside, { force: true }).catch(() => undefined);
  }
}

function fileOf(stateDirectory: string, instance: string): string {
  return join(stateDirectory, 'speeds', `${instance}.json`);
}

/** Only what is of the right shape counts. */
function checkRecord(found: unknown): SpeedRecord | null {
  if (!isObject(found) || typeof found['measuredAt'] !== 'string') return null;
  const record: Record<string, unknown> = { measuredAt: found['measuredAt'] };
  for (const kind of ['replay', 'fetch', 'restore', 'rewrite']) {
    const work = found[kind];
    if (isObject(work) && isAmount(work['bytes']) && isAmount(work['seconds'])) record[kind] = work;
  }
  const share = found['rewriteShare'];
  if (isObject(share) && isAmount(share['rewrittenBytes']) && isAmount(share['logBytes']))
    record['rewriteShare'] = share;
  if (isAmount(found['fixedSeconds'])) record['fixedSeconds'] = found['fixedSeconds'];
  return record as unknown as SpeedRecord;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
