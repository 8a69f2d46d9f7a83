import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import { type StopRecord, stopMark } from './stop-record.ts';

/** `on`: made for this stop. `not ours`: there is one, made by somebody else. */
export type MaintenanceState = 'on' | 'off' | 'not ours';

export async function maintenanceState(
  path: string,
  record: Pick<StopRecord, 'id'>,
): Promise<MaintenanceState> {
  try {
    return (await readFile(path, 'utf8')).includes(stopMark(record)) ? 'on' : 'not ours';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return 'off';
    throw fileError('read', path, error);
  }
}

/** Puts the page in its place, whole at once. One that is there already stays: it is somebody's, and it serves. */
export async function switchMaintenanceOn(path: string, record: StopRecord): Promise<'made' | 'was there'> {
  const temporary = `${path}.${process.pid}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    // Everybody may read it: the web server runs as another user.
    await writeFile(temporary, page(record), { mode: 0o644 });
    await link(temporary, path);
    return 'made';
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return 'was there';
    throw fileError('write', path, error);
  } finally {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}

/** Removes the page if this stop made it. */
export async function switchMaintenanceOff(
  path: string,
  record: Pick<StopRecord, 'id'>,
): Promise<MaintenanceState> {
  const state = await maintenanceState(path, record);
  if (state === 'on') {
    await rm(path, { force: true }).catch((error: unknown) => {
      throw fileError('remove', path, error);
    });
  }
  return state;
}

/** The reason is not shown: it is for colleagues, and this is for everybody. */
function page(record: StopRecord): string {
  return `<!doctype html>
<html lang="en">
<!-- ${stopMark(record)} -->
<head><meta charset="utf-8"><title>Maintenance</title><meta name="viewport" content="width=device-width"></head>
<body style="font-family: sans-serif; max-width: 30em; margin: 20vh auto; padding: 0 1em">
<h1>We will be back shortly</h1>
<p>This service is under maintenance since ${record.stoppedAt.slice(0, 16).replace('T', ' ')} UTC.</p>
</body>
</html>
`;
}
