import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { newBackupId } from '../../repository/layout.ts';
import { listBackupIds } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';

/** `_YYYYMMDD_HHMMSS_`: what stands behind it is random. */
const MOMENT = /_\d{8}_\d{6}_/;

/**
 * An id for a backup that begins now. Backups are in the order of their ids, and a small incremental one is done within the
 * second in which the one before it began: then the random part is such that it comes behind.
 */
export async function nextBackupId(
  { instance, repository }: Pick<InstanceContext, 'instance' | 'repository'>,
  signal: AbortSignal,
): Promise<string> {
  const last = (await listBackupIds(repository, instance, { signal })).at(-1) ?? '';
  for (;;) {
    const id = newBackupId(new Date(), randomBytes(3));
    const moment = MOMENT.exec(id)?.[0];
    // A clock that was put back is another matter.
    if (MOMENT.exec(last)?.[0] !== moment || id.slice(id.indexOf('_')) > last.slice(last.indexOf('_')))
      return id;
    await sleep(1, undefined, { signal });
  }
}
