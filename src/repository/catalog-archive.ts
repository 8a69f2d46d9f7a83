import type { CallOptions } from '../storage/storage.ts';
import { FRAME_BODY_BYTES } from './compression.ts';
import { catalogPath, catalogsPrefix } from './layout.ts';
import type { LogOwner } from './log-archive.ts';
import type { Repository } from './repository.ts';
import { frameBodies, openSealed } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

const LEVEL = 3;

/** Where in the log a catalog was taken. */
export interface CatalogPlace {
  readonly timeline: number;
  readonly lsn: bigint;
}

/** Stores the names of relations at a position; one that is there already stays. */
export async function putCatalog(
  repository: Repository,
  catalog: LogOwner & CatalogPlace & { readonly bytes: Uint8Array; readonly digest: string },
  options: CallOptions = {},
): Promise<void> {
  const path = catalogPath(catalog, catalog);
  const writer = new SealedWriter({ kind: 'catalog', path, keyring: repository.keyring, level: LEVEL });
  for (let at = 0; at < catalog.bytes.length; at += FRAME_BODY_BYTES)
    writer.addFrame(catalog.bytes.subarray(at, at + FRAME_BODY_BYTES));
  writer.finish({ catalog: { digest: catalog.digest, taken: new Date().toISOString() } });
  await repository.storage.put(path, writer.take(), options);
}

/** The positions of all stored catalogs of a system: timeline by timeline, ascending. */
export async function listCatalogs(
  repository: Repository,
  owner: LogOwner,
  options: CallOptions = {},
): Promise<CatalogPlace[]> {
  const places: CatalogPlace[] = [];
  for await (const { key } of repository.storage.list(catalogsPrefix(owner), options)) {
    const [, timeline, lsn] = /\/([0-9A-F]{8})\/([0-9A-F]{16})$/.exec(key) ?? [];
    if (timeline === undefined || lsn === undefined) continue;
    places.push({ timeline: Number.parseInt(timeline, 16), lsn: BigInt(`0x${lsn}`) });
  }
  return places.sort((a, b) => a.timeline - b.timeline || (a.lsn < b.lsn ? -1 : 1));
}

/** A catalog's bytes; null when there is none at that position. @throws CORRUPT */
export async function getCatalog(
  repository: Repository,
  place: LogOwner & CatalogPlace,
  options: CallOptions = {},
): Promise<Uint8Array | null> {
  const object = await openCatalog(repository, place, options);
  if (object === null) return null;
  const bodies: Uint8Array[] = [];
  for await (const body of frameBodies(repository.storage, object, options)) bodies.push(body);
  return Buffer.concat(bodies);
}

/** What is equal for two catalogs with the same names; null when there is none at that position. @throws CORRUPT */
export async function catalogDigestAt(
  repository: Repository,
  place: LogOwner & CatalogPlace,
  options: CallOptions = {},
): Promise<string | null> {
  const facts = (await openCatalog(repository, place, options))?.footer['catalog'] as
    | { readonly digest?: unknown }
    | undefined;
  return typeof facts?.digest === 'string' ? facts.digest : null;
}

function openCatalog(
  repository: Repository,
  place: LogOwner & CatalogPlace,
  options: CallOptions,
): ReturnType<typeof openSealed> {
  const target = { path: catalogPath(place, place), kind: 'catalog', keyring: repository.keyring } as const;
  return openSealed(repository.storage, target, options);
}
