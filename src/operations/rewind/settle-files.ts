import { closeSync, constants, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { fileError } from '../../base/errors.ts';
import { clearVisibility } from '../../engines/postgres/visibility-map.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { eachRange, type Ranges } from '../backup/ranges.ts';
import { createFile, type Owner } from '../restore/new-files.ts';
import { writeFully } from '../restore/write-fully.ts';
import type { RewindWork, SettledFiles } from './decide-work.ts';
import { keptPlace, livePlace, type Places } from './places.ts';
import type { SavedState } from './saved-state.ts';

interface SettlingPlace {
  readonly places: Places;
  readonly state: SavedState;
  readonly backup: BackupFacts;
  readonly owner: Owner;
}

/** What pages that are left as they are need beside: before the control file is there, when all else is written. */
export function settleFiles(work: RewindWork, from: SettlingPlace): void {
  if (work.settled !== null) carryVisibility(work.settled, from);
  for (const item of work.items)
    if (item.work.kind === 'patch' && item.work.zeroed.length > 0)
      zero(livePlace(from.places, item.path), item.work.zeroed);
}

function zero(path: string, ranges: Ranges): void {
  let file: number;
  try {
    file = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    throw fileError('open', path, error);
  }
  try {
    for (const [position, length] of eachRange(ranges))
      writeFully(file, new Uint8Array(length), { position, path });
  } finally {
    closeSync(file);
  }
}

/**
 * Gives relations that have settled pages the visibility maps they had before the rewind, put aside by now, without the bits of
 * pages that were changed since: what their records would make of the backup's is not replayed. A map may always say less than
 * it could: the next vacuum tells more.
 */
function carryVisibility(settled: SettledFiles, from: SettlingPlace): void {
  const { places, state, backup, owner } = from;
  const { settling, relations } = settled;
  for (const { path, key } of relations) {
    const map = `${path}_vm`;
    const live = livePlace(places, map);
    // That of the backup, whose bits are older than what was taken out of the log.
    rmSync(live, { force: true });
    const facts = state.live.files.get(map);
    const kept = keptPlace(places, map);
    if (facts === undefined || !existsSync(kept)) continue;
    const bytes = readKept(kept);
    clearVisibility(bytes, settling.pages.get(key)?.blocks ?? new Uint32Array(0), {
      blockSize: backup.blockSize,
      checksums: backup.pageChecksums,
      // What is replayed from there on may set bits again; before it, none of a page whose records are thinned.
      upTo: settling.from,
    });
    const file = createFile(live, { sizeBytes: 0, mode: facts.mode, owner });
    try {
      writeFully(file, bytes, { position: 0, path: live });
    } finally {
      closeSync(file);
    }
  }
}

function readKept(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError('read', path, error);
  }
}
