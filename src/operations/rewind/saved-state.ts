import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError } from '../../base/errors.ts';
import { type ChangeMap, type ForkChanges, forkKey } from '../../engines/postgres/change-map.ts';
import type { StorageEvent } from '../../engines/postgres/wal-storage.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { writeDurably } from './durable-files.ts';
import type { ServerFiles } from './server-files.ts';
import type { Settling } from './settling.ts';

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
  /** Of {@link pageRules}: an attempt that is begun anew, by a later program perhaps, must decide as the first one did. */
  readonly keepingCosts: number;
  /** What was changed since a checkpoint before the target; null: that does not tell. */
  readonly settling: Settling | null;
}

/** What it was before it was written down. */
const FIRST_KEEPING_COSTS = 2;

const STATE_FILE = 'state.json';
const SINCE_FILE = 'since.json';

/** Durable when it resolves. */
export async function writeSavedState(safety: string, state: SavedState): Promise<void> {
  await writeChecked(join(safety, STATE_FILE), {
    live: listing(state.live),
    log: listing(state.log),
    spGist: [...state.spGist],
    map: storedMap(state.map),
    keepingCosts: state.keepingCosts,
    settling:
      state.settling === null
        ? null
        : { ...state.settling, pages: storedForks(state.settling.pages.values()) },
  });
}

/** @throws CORRUPT */
export async function readSavedState(safety: string): Promise<SavedState> {
  const { live, log, spGist, map, keepingCosts, settling } = (await readChecked(
    join(safety, STATE_FILE),
  )) as StoredState;
  return {
    live: fromListing(live),
    log: fromListing(log),
    spGist: new Set(spGist),
    map: fromStoredMap(map),
    keepingCosts: keepingCosts ?? FIRST_KEEPING_COSTS,
    settling: settling
      ? { ...settling, from: BigInt(settling.from), pages: fromStoredForks(settling.pages) }
      : null,
  };
}

/** Keeps the map of what was changed after a rewind, for going back. Durable when it resolves. */
export async function writeMapSince(safety: string, map: ChangeMap): Promise<void> {
  await writeChecked(join(safety, SINCE_FILE), storedMap(map));
}

/** @throws CORRUPT */
export async function readMapSince(safety: string): Promise<ChangeMap> {
  return fromStoredMap((await readChecked(join(safety, SINCE_FILE))) as StoredMap);
}

async function writeChecked(path: string, value: unknown): Promise<void> {
  const body = JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each));
  await writeDurably(path, `${hash('sha256', body, 'hex')}\n${body}\n`);
}

async function readChecked(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  const [digest, body = ''] = text.split('\n');
  if (hash('sha256', body, 'hex') !== digest)
    throw new AppError('CORRUPT', `unable to read '${path}' of the safety copy: its checksum is wrong`);
  return JSON.parse(body);
}

type Listing = {
  readonly files: readonly (readonly [path: string, sizeBytes: number, mode: number])[];
  readonly directories: readonly (readonly [path: string, mode: number])[];
};

type StoredFork = readonly [number, number, number, number, string, string];

interface StoredMap {
  readonly from: string;
  readonly to: string;
  readonly target: string | null;
  readonly forks: readonly StoredFork[];
  readonly storage: readonly (Record<string, unknown> & { readonly lsn: string })[];
}

interface StoredState {
  readonly live: Listing;
  readonly log: Listing;
  readonly spGist: readonly string[];
  readonly map: StoredMap;
  readonly keepingCosts?: number;
  readonly settling?: {
    readonly from: string;
    readonly spares: number;
    readonly pages: readonly StoredFork[];
  } | null;
}

function storedMap(map: ChangeMap): unknown {
  const { from, to, target, storage } = map;
  return { from, to, target, forks: storedForks(map.forks.values()), storage };
}

function storedForks(forks: Iterable<ForkChanges>): unknown[] {
  return [...forks].map(fork => [
    ...[fork.relation.tablespace, fork.relation.database, fork.relation.file, fork.fork],
    ...[toBase64(fork.blocks), toBase64(fork.overwrittenFirst)],
  ]);
}

function fromStoredForks(forks: readonly StoredFork[]): Map<string, ForkChanges> {
  return new Map(
    forks.map(([tablespace, database, file, fork, blocks, overwritten]) => {
      const relation: RelationFile = { tablespace, database, file };
      const overwrittenFirst = new Uint8Array(Buffer.from(overwritten, 'base64'));
      const changes = { relation, fork, blocks: toNumbers(blocks), overwrittenFirst };
      return [forkKey(relation, fork), changes];
    }),
  );
}

function fromStoredMap(map: StoredMap): ChangeMap {
  return {
    from: BigInt(map.from),
    to: BigInt(map.to),
    target: map.target === null ? null : BigInt(map.target),
    forks: fromStoredForks(map.forks),
    storage: map.storage.map(event => ({ ...event, lsn: BigInt(event.lsn) }) as StorageEvent),
    // They decide whether a rewind is made, not how.
    events: [],
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
    // With links there is no rewind.
    links: [],
  };
}

function toBase64(numbers: Uint8Array | Uint32Array): string {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).toString('base64');
}

function toNumbers(text: string): Uint32Array {
  const bytes = Buffer.from(text, 'base64');
  return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}
