import { AppError } from '../../base/errors.ts';
import { decodeCatalog } from '../../engines/postgres/catalog-encoding.ts';
import {
  type CatalogRelation,
  type CatalogSnapshot,
  FIRST_USER_FILE,
  type QualifiedName,
  type RelationKind,
} from '../../engines/postgres/catalog-snapshot.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { getCatalog, listCatalogs } from '../../repository/catalog-archive.ts';
import type { LogOwner } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import type { TimelineStart } from '../log/log-view.ts';

/** What a file of a relation was called at a position of the log. */
export interface RelationName {
  readonly relation: RelationFile;
  /** Null when it is not known, and for relations that all databases share. */
  readonly database: string | null;
  /** `unknown`: no catalog has this file. `system`: of PostgreSQL itself. */
  readonly kind: RelationKind | 'system' | 'unknown';
  readonly name: QualifiedName | null;
  /** The table whose index or TOAST relation it is. */
  readonly table: QualifiedName | null;
  readonly partitionOf: QualifiedName | null;
  readonly estimatedRows: number | null;
}

/** Names with history: a table that was dropped since still has the one it had. */
export interface RelationNames {
  /** A file's name at a position of the log. */
  nameOf(relation: RelationFile, lsn: bigint): Promise<RelationName>;
  /** A database's name at a position; null when it is not known. */
  databaseOf(oid: number, lsn: bigint): Promise<string | null>;
  /** Adds a name for a file that no catalog has, where something else says what it is. */
  learn(relation: RelationFile, name: Omit<RelationName, 'relation'>): void;
  /** How many catalogs there are; without any, nothing has a name. */
  readonly catalogs: number;
  /** Catalogs that could not be read, each with its reason. */
  readonly problems: readonly string[];
}

/** Decoded catalogs held at once: of 100,000 relations, some 20 MiB each. */
const CATALOGS_HELD = 16;
/** So far is looked on both sides of a position before all catalogs are. */
const CATALOGS_BESIDE = 2;
/** What is in them is of PostgreSQL itself. */
export const SYSTEM_SCHEMAS = ['pg_catalog', 'information_schema'];

interface NamedFiles {
  readonly databases: ReadonlyMap<number, string>;
  readonly relations: ReadonlyMap<string, CatalogRelation>;
}

interface Source {
  readonly lsn: bigint;
  load(): Promise<NamedFiles | null>;
}

/**
 * Looks up names in the catalogs that were recorded along a chain of timelines. A catalog at or before a position counts
 * more than one behind it; a file that neither has is looked for further away: a database may have refused connections
 * when they were recorded, and a file that is gone is in old ones alone.
 *
 * @param live what the running server says now, where it was asked
 */
export async function nameRelations(
  { repository }: { readonly repository: Repository },
  log: { readonly owner: LogOwner; readonly chain: readonly TimelineStart[] },
  options: { readonly signal: AbortSignal; readonly live?: CatalogSnapshot | null },
): Promise<RelationNames> {
  const { owner, chain } = log;
  const problems: string[] = [];
  const places = (await listCatalogs(repository, owner, { signal: options.signal })).filter(each =>
    isOnChain(each, chain),
  );
  const sources = places.map(
    (place): Source => ({
      lsn: place.lsn,
      async load() {
        try {
          const bytes = await getCatalog(repository, { ...owner, ...place }, { signal: options.signal });
          const { systemIdentifier } = owner;
          return bytes && indexOf(decodeCatalog(bytes, { ...place, systemIdentifier }));
        } catch (error) {
          if (!(error instanceof AppError) || error.code !== 'CORRUPT') throw error;
          problems.push(error.message);
          return null;
        }
      },
    }),
  );
  const { live = null } = options;
  if (live !== null && live.systemIdentifier === owner.systemIdentifier && isOnChain(live, chain)) {
    const files = indexOf(live);
    sources.push({ lsn: live.lsn, load: async () => files });
  }
  sources.sort((a, b) => (a.lsn < b.lsn ? -1 : a.lsn > b.lsn ? 1 : 0));
  return { ...lookUps(sources), catalogs: sources.length, problems };
}

/** Whether a catalog was taken on a chain of timelines, and not behind where it left one of them. */
export function isOnChain(
  place: { readonly timeline: number; readonly lsn: bigint },
  chain: readonly TimelineStart[],
): boolean {
  const index = chain.findIndex(step => step.timeline === place.timeline);
  const left = chain[index + 1]?.begin;
  return index >= 0 && (left === undefined || place.lsn <= left);
}

function lookUps(sources: readonly Source[]): Pick<RelationNames, 'nameOf' | 'databaseOf' | 'learn'> {
  const learned = new Map<string, RelationName>();
  const held = new Map<number, Promise<NamedFiles | null>>();
  const load = (index: number): Promise<NamedFiles | null> => {
    const known = held.get(index);
    if (known !== undefined) {
      // The least recently used one goes first.
      held.delete(index);
      held.set(index, known);
      return known;
    }
    const files = sources[index]?.load() ?? Promise.resolve(null);
    held.set(index, files);
    const [oldest] = held.keys();
    if (held.size > CATALOGS_HELD && oldest !== undefined) held.delete(oldest);
    return files;
  };
  let everything: Promise<NamedFiles> | null = null;
  const search = async <T>(lsn: bigint, find: (files: NamedFiles) => T | undefined): Promise<T | null> => {
    const at = sources.findLastIndex(source => source.lsn <= lsn);
    for (let distance = 0; distance <= CATALOGS_BESIDE; distance += 1) {
      // The one at the position, then the one behind it, where a file made in between is; then further away.
      for (const index of [at - distance, at + 1 + distance]) {
        const files = index >= 0 && index < sources.length ? await load(index) : null;
        const found = files === null ? undefined : find(files);
        if (found !== undefined) return found;
      }
    }
    everything ??= joinAll(sources);
    return find(await everything) ?? null;
  };
  const databaseOf = (oid: number, lsn: bigint): Promise<string | null> =>
    oid === 0 ? Promise.resolve(null) : search(lsn, files => files.databases.get(oid));
  return {
    databaseOf,
    async nameOf(relation, lsn) {
      const database = await databaseOf(relation.database, lsn);
      // What all databases share is always of PostgreSQL itself.
      if (relation.file < FIRST_USER_FILE || relation.database === 0)
        return unnamed(relation, database, 'system');
      const found = await search(lsn, files => files.relations.get(fileKey(relation)));
      if (found !== null) return named(found, database);
      return learned.get(fileKey(relation)) ?? unnamed(relation, database, 'unknown');
    },
    learn: (relation, name) => void learned.set(fileKey(relation), { ...name, relation }),
  };
}

/** Every file with the newest name it has anywhere. */
async function joinAll(sources: readonly Source[]): Promise<NamedFiles> {
  const databases = new Map<number, string>();
  const relations = new Map<string, CatalogRelation>();
  for (const source of sources) {
    const files = await source.load();
    for (const [oid, name] of files?.databases ?? []) databases.set(oid, name);
    for (const [key, relation] of files?.relations ?? []) relations.set(key, relation);
  }
  return { databases, relations };
}

function indexOf(snapshot: CatalogSnapshot): NamedFiles {
  return {
    databases: new Map(snapshot.databases.map(({ oid, name }) => [oid, name])),
    relations: new Map(snapshot.relations.map(each => [fileKey(each.relation), each])),
  };
}

function unnamed(relation: RelationFile, database: string | null, kind: 'system' | 'unknown'): RelationName {
  return { relation, database, kind, name: null, table: null, partitionOf: null, estimatedRows: null };
}

function named(found: CatalogRelation, database: string | null): RelationName {
  const { schema, name, table, partitionOf, estimatedRows } = found;
  const isSystem = SYSTEM_SCHEMAS.includes(table?.schema ?? schema);
  const kind = isSystem ? 'system' : found.kind;
  return {
    relation: found.relation,
    database,
    kind,
    name: { schema, name },
    table,
    partitionOf,
    estimatedRows,
  };
}

/** Equal for two references to the same file. */
export function fileKey({ tablespace, database, file }: RelationFile): string {
  return `${tablespace}/${database}/${file}`;
}

/** `shop: public.users`, or `shop: relation 16512` where no catalog knows it. */
export function describeRelation({ relation, database, name }: RelationName): string {
  const what = name === null ? `relation ${relation.file}` : `${name.schema}.${name.name}`;
  const where = database ?? (relation.database === 0 ? null : `database ${relation.database}`);
  return where === null ? what : `${where}: ${what}`;
}
