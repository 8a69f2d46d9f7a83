import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError } from '../../base/errors.ts';
import { type ChangeMap, forkKey } from '../../engines/postgres/change-map.ts';
import type { StorageEvent } from '../../engines/postgres/wal-storage.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { writeDurably } from './durable-files.ts';
import type { ServerFiles } from './server-files.ts';

/**
 * What all decisions of a rewind come from, as it was before anything was changed. A rewind that is begun anew decides by
 * this and not by what it finds, which its first attempt has changed already.
 */
export interface SavedState {
  readonly live: ServerFiles;
  /** Of `pg_wal`. */
  readonly log: ServerFiles;
  /** The first files of the SP-GiST indexes that the log names. */
  readonly spGist: ReadonlySet<string>;
  readonly map: ChangeMap;
}

const FILE = 'state.json';

/** Durable when it resolves. */
export async function writeSavedState(safety: string, state: SavedState): Promise<void> {
  const { map } = state;
  const body = JSON.stringify(
    {
      live: listing(state.live),
      log: listing(state.log),
      spGist: [...state.spGist],
      map: {
        from: map.from,
        to: map.to,
        target: map.target,
        forks: [...map.forks.values()].map(fork => [
          ...[fork.relation.tablespace, fork.relation.database, fork.relation.file, fork.fork],
          ...[toBase64(fork.blocks), toBase64(fork.overwrittenFirst)],
        ]),
        storage: map.storage,
      },
    },
    bigintsAsText,
  );
  await writeDurably(join(safety, FILE), `${hash('sha256', body, 'hex')}\n${body}\n`);
}

/** @throws CORRUPT */
export async function readSavedState(safety: string): Promise<SavedState> {
  const path = join(safety, FILE);
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  const [digest, body = ''] = text.split('\n');
  if (hash('sha256', body, 'hex') !== digest)
    throw new AppError('CORRUPT', `unable to read '${path}' of the safety copy: its checksum is wrong`);
  const { live, log, spGist, map } = JSON.parse(body) as Stored;
  return {
    live: fromListing(live),
    log: fromListing(log),
    spGist: new Set(spGist),
    map: {
      from: BigInt(map.from),
      to: BigInt(map.to),
      target: map.target === null ? null : BigInt(map.target),
      forks: new Map(
        map.forks.map(([tablespace, database, file, fork, blocks, overwritten]) => {
          const relation: RelationFile = { tablespace, database, file };
          const changes = {
            relation,
            fork,
            blocks: toNumbers(blocks),
            overwrittenFirst: new Uint8Array(Buffer.from(overwritten, 'base64')),
          };
          return [forkKey(relation, fork), changes] as const;
        }),
      ),
      storage: map.storage.map(event => ({ ...event, lsn: BigInt(event.lsn) }) as StorageEvent),
      // They decide whether a rewind is made, not how.
      events: [],
    },
  };
}

type Listing = {
  readonly files: readonly (readonly [path: string, sizeBytes: number, mode: number])[];
  readonly directories: readonly (readonly [path: string, mode: number])[];
};

interface Stored {
  readonly live: Listing;
  readonly log: Listing;
  readonly spGist: readonly string[];
  readonly map: {
    readonly from: string;
    readonly to: string;
    readonly target: string | null;
    readonly forks: readonly (readonly [number, number, number, number, string, string])[];
    readonly storage: readonly (Record<string, unknown> & { readonly lsn: string })[];
  };
}

function listing(files: ServerFiles): Listing {
  return {
    files: [...files.files].map(([path, { sizeBytes, mode }]) => [path, sizeBytes, mode]),
    directories: [...files.directories].map(([path, { mode }]) => [path, mode]),
  };
}

function fromListing(stored: Listing): ServerFiles {
  return {
    files: new Map(stored.files.map(([path, sizeBytes, mode]) => [path, { sizeBytes, mode }])),
    directories: new Map(stored.directories.map(([path, mode]) => [path, { mode }])),
  };
}

function bigintsAsText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function toBase64(numbers: Uint8Array | Uint32Array): string {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).toString('base64');
}

function toNumbers(text: string): Uint32Array {
  const bytes = Buffer.from(text, 'base64');
  return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}
