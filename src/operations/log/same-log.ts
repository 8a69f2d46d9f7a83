import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import { segmentStart } from '../../engines/postgres/lsn.ts';
import type { LogView } from './log-view.ts';

/**
 * Whether a server's own log is the one that is archived. A server whose files were exchanged, as by going back to a snapshot
 * of its disk, goes on under the same names of segments, and the archive then tells of changes that are not this server's.
 * Records link back to those before them, so the newest segment that both have decides about all before it.
 *
 * @returns `foreign` its name when it is not the same in both, `compared` whether there is one at all
 */
export async function compareLiveLog(
  view: LogView,
  logDirectory: string,
  span: { readonly from: bigint; readonly to: bigint },
): Promise<{ readonly foreign: string | null; readonly compared: boolean }> {
  const size = BigInt(view.segmentSize);
  const first = segmentStart(span.from, view.segmentSize);
  for (let lsn = segmentStart(span.to, view.segmentSize); lsn >= first; lsn -= size) {
    const name = view.expectedName(lsn);
    if (view.nameAt(lsn) !== name) continue;
    const live = await readOrNull(join(logDirectory, name));
    if (live === null) continue;
    const archived = await view.read(lsn);
    const isSame = Buffer.compare(live, archived) === 0;
    for (const bytes of [live, archived]) releaseMemory(bytes);
    return { foreign: isSame ? null : name, compared: true };
  }
  return { foreign: null, compared: false };
}

async function readOrNull(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}
