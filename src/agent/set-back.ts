import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import { formatLsn } from '../engines/postgres/lsn.ts';

interface SetBack {
  readonly timeline: number;
  readonly received: string;
  readonly server: string;
}

const FILE = 'set-back.json';

/**
 * Refuses a server whose log ends before what was received of the same timeline: it was set back (a snapshot of a virtual
 * machine, files copied by hand, a disk that lied) and writes another history under the same names. Once it has grown past
 * that place nobody could tell any more, so it is remembered.
 *
 * @throws LOG_CONFLICT
 */
export async function refuseSetBack(
  directory: string,
  server: { readonly timeline: number; readonly flushLsn: bigint; readonly received: bigint | null },
): Promise<void> {
  const { timeline, flushLsn, received } = server;
  const path = join(directory, FILE);
  const known = readJsonFile<SetBack>(path);
  const isSetBack = received !== null && received > flushLsn;
  if (known?.timeline !== timeline && !isSetBack) return;
  const found: SetBack =
    known?.timeline === timeline
      ? known
      : { timeline, received: formatLsn(received ?? 0n), server: formatLsn(flushLsn) };
  if (found !== known) await writeJsonFile(path, found);
  throw new AppError(
    'LOG_CONFLICT',
    `unable to receive the log: the server was set back to ${found.server} on timeline ${timeline}, and ${found.received} was received already`,
    {
      hint: `Its log no longer continues the archived one. Give it a timeline of its own (restore it with aishell, or promote it), or a new instance name; if you know better, remove '${path}'.`,
    },
  );
}
