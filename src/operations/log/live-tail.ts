import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, systemCode } from '../../base/errors.ts';
import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import { checkSegment } from './archive-segment.ts';
import type { LogView } from './log-view.ts';

/**
 * The archived log, and behind it what lies in the server's own pg_wal and is not archived yet: after a disaster the last
 * minutes are what counts. They are read as they are, and nothing is archived. Only the timeline that the server is on has
 * such a tail; where its files cannot be read, there is none.
 */
export async function withLiveTail(
  view: LogView,
  live: { readonly dataDirectory: string; readonly timeline: number },
): Promise<LogView> {
  if (live.timeline !== view.timeline || view.end === null) return view;
  const directory = join(live.dataDirectory, 'pg_wal');
  const { segmentSize } = view;
  const files = new Map<bigint, string>();
  // The last archived segment may be there in part only; it is whole in pg_wal.
  let lsn = segmentStart(view.end - 1n, segmentSize);
  if (view.nameAt(lsn)?.endsWith('.partial') !== true) lsn = nextSegment(lsn, segmentSize);
  for (; ; lsn = nextSegment(lsn, segmentSize)) {
    const name = view.expectedName(lsn);
    if ((await readOwn(join(directory, name), name, view)) === null) break;
    files.set(lsn, name);
  }
  if (files.size === 0) return view;
  const nameAt = (at: bigint): string | null => {
    const name = files.get(segmentStart(at, segmentSize));
    // It goes on to grow: what is read of it is a part.
    return name === undefined ? view.nameAt(at) : `${name}.partial`;
  };
  const reachAt = (at: bigint): bigint | null =>
    files.has(segmentStart(at, segmentSize)) ? nextSegment(at, segmentSize) : view.reachAt(at);
  return {
    ...view,
    nameAt,
    reachAt,
    end: lsn,
    async read(at) {
      const name = files.get(segmentStart(at, segmentSize));
      const bytes = name === undefined ? null : await readOwn(join(directory, name), name, view);
      return bytes ?? view.read(at);
    },
    firstMissing(at) {
      let next = segmentStart(at, segmentSize);
      for (;;) {
        const reach = reachAt(next);
        if (reach === null) return next;
        next = nextSegment(next, segmentSize);
        if (reach < next) return next;
      }
    },
  };
}

/** A segment that is what its name says; null when it is not there, cannot be read, or is an old one under a new name. */
async function readOwn(path: string, name: string, view: LogView): Promise<Uint8Array | null> {
  try {
    const bytes = new Uint8Array(await readFile(path));
    return checkSegment(bytes, name) === view.owner.systemIdentifier ? bytes : null;
  } catch (error) {
    if (error instanceof AppError && error.code === 'CORRUPT') return null;
    if (['ENOENT', 'EACCES', 'EPERM', 'ENOTDIR'].includes(systemCode(error))) return null;
    throw error;
  }
}
