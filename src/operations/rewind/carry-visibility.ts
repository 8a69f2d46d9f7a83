import { closeSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { fileError } from '../../base/errors.ts';
import { clearVisibility } from '../../engines/postgres/visibility-map.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { createFile, type Owner } from '../restore/new-files.ts';
import { writeFully } from '../restore/write-fully.ts';
import type { SettledFiles } from './decide-work.ts';
import { keptPlace, livePlace, type Places } from './places.ts';
import type { SavedState } from './saved-state.ts';

/**
 * Gives relations that have settled pages the visibility maps they had before the rewind, put aside by now, without the bits of
 * pages that were changed since: what their records would make of the backup's is not replayed. A map may always say less than
 * it could: the next vacuum tells more.
 */
export function carryVisibility(
  settled: SettledFiles,
  from: {
    readonly places: Places;
    readonly state: SavedState;
    readonly backup: BackupFacts;
    readonly owner: Owner;
  },
): void {
  const { places, state, backup, owner } = from;
  for (const { path, key } of settled.relations) {
    const map = `${path}_vm`;
    const live = livePlace(places, map);
    // That of the backup, whose bits are older than what was taken out of the log.
    rmSync(live, { force: true });
    const facts = state.live.files.get(map);
    const kept = keptPlace(places, map);
    if (facts === undefined || !existsSync(kept)) continue;
    const bytes = readKept(kept);
    clearVisibility(bytes, state.settling?.pages.get(key)?.blocks ?? new Uint32Array(0), {
      blockSize: backup.blockSize,
      checksums: backup.pageChecksums,
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
