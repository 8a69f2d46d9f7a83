import {
  type CatalogRelation,
  type CatalogSnapshot,
  FIRST_USER_FILE,
} from '../../engines/postgres/catalog-snapshot.ts';
import { parseRelationFile, relationFileOf } from '../../engines/postgres/data-files-names.ts';
import { BLOCKS_PER_GROUP } from '../../engines/postgres/row-positions.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { SYSTEM_SCHEMAS } from '../catalog/relation-names.ts';
import type { NeededBytes } from '../restore/restore-files.ts';

/** What will be read of a file of a table. */
export interface WantedPages {
  readonly relation: RelationFile;
  /** Numbers of groups of {@link BLOCKS_PER_GROUP} pages; null: all of it. */
  readonly groups: ReadonlySet<number> | null;
}

/** A page, as the server's log names it. */
export interface PageOfFile {
  readonly database: number;
  readonly file: number;
  readonly block: number;
}

/** Which pages of a backup a side instance needs. What is not known to be a table's that nobody reads is needed. */
export interface FileSelection {
  /** Which bytes of the file at a path of the manifest; null: all. */
  needs(path: string): NeededBytes | null;
  /** Of a relation's main file. */
  needsPage(page: PageOfFile): boolean;
  /** Of a database: numbers of the files of which nothing is needed. */
  leftOut(database: number): number[];
  /** Of a database: numbers of the files with wanted pages. */
  wanted(database: number): number[];
}

/** `first page`: what the planner looks at of an index. @source nbtpage.c, _bt_getrootheight */
type Part = 'all' | 'nothing' | 'first page' | ReadonlySet<number>;

export interface SelectionRequest {
  readonly wanted: readonly WantedPages[];
  /** Numbers of the databases that sessions may be opened in: of the others not even the catalogs are read. Null: of all. */
  readonly connected: ReadonlySet<number> | null;
}

/**
 * Chooses the pages to restore by what the relations were when the backup was made.
 *
 * Files count as the same under one number of one database, in whatever tablespace: ALTER DATABASE moves files without giving
 * them new numbers.
 */
export function selectFiles(
  catalog: Pick<CatalogSnapshot, 'relations'>,
  { wanted, connected }: SelectionRequest,
  { blockSize, relationSegmentBlocks }: Pick<BackupFacts, 'blockSize' | 'relationSegmentBlocks'>,
): FileSelection {
  const pages = new Map(wanted.map(each => [keyOf(each.relation), each.groups ?? ('all' as const)]));
  const known = partsOf(catalog, pages);
  const partFor = (relation: Pick<RelationFile, 'database' | 'file'>): Part => {
    const { database, file } = relation;
    const isCatalog = file < FIRST_USER_FILE && database !== 0;
    if (isCatalog && connected !== null && !connected.has(database)) return 'nothing';
    return known.get(keyOf(relation)) ?? 'all';
  };
  const left = [...known].flatMap(([key, part]) => (part === 'nothing' ? [key] : []));
  const numbersOf = (database: number, keys: Iterable<string>): number[] =>
    [...keys].flatMap(key => (key.startsWith(`${database}/`) ? [Number(key.split('/')[1])] : []));
  return {
    needs(path) {
      const relation = relationFileOf(path);
      const part = relation === null ? 'all' : partFor(relation);
      const file = parseRelationFile(path.slice(path.lastIndexOf('/') + 1));
      if (part === 'all' || file === null || file.fork === 'init') return null;
      if (part === 'nothing') return () => false;
      // The maps of free space and of visible pages are small.
      if (file.fork !== 'main') return null;
      const firstBlock = file.segmentNumber * relationSegmentBlocks;
      return (from, to) => {
        const [first, last] = [from / blockSize, (to - 1) / blockSize].map(at => firstBlock + Math.floor(at));
        return holdsAny(part, first!, last!);
      };
    },
    needsPage(page) {
      const part = partFor(page);
      return part === 'all' || (part !== 'nothing' && holdsAny(part, page.block, page.block));
    },
    leftOut: database => numbersOf(database, left),
    wanted: database => numbersOf(database, pages.keys()),
  };
}

function holdsAny(part: Exclude<Part, 'all' | 'nothing'>, first: number, last: number): boolean {
  if (part === 'first page') return first === 0;
  for (let group = Math.floor(first / BLOCKS_PER_GROUP); group * BLOCKS_PER_GROUP <= last; group += 1)
    if (part.has(group)) return true;
  return false;
}

/** The parts of all files of users' relations that the catalog knows. */
function partsOf(
  { relations }: Pick<CatalogSnapshot, 'relations'>,
  pages: ReadonlyMap<string, 'all' | ReadonlySet<number>>,
): Map<string, Part> {
  const tables = new Set(relations.filter(each => pages.has(keyOf(each.relation))).map(tableOf));
  const parts = new Map<string, Part>();
  for (const each of relations) {
    if (!isLeftOutUnlessWanted(each)) continue;
    const key = keyOf(each.relation);
    // Two tablespaces may use one number.
    parts.set(
      key,
      parts.has(key) ? 'all' : tables.has(tableOf(each)) ? partOf(each, pages.get(key)) : 'nothing',
    );
  }
  return parts;
}

/** Sequences are a page each, and a table's definition is read with them. */
function isLeftOutUnlessWanted({ kind, schema, table }: CatalogRelation): boolean {
  if (kind === 'sequence' || (kind === 'toast' && table === null)) return false;
  return !SYSTEM_SCHEMAS.includes((table ?? { schema }).schema);
}

/** Of a relation that is a wanted table, or belongs to one. */
function partOf({ kind, schema }: CatalogRelation, pages: 'all' | ReadonlySet<number> | undefined): Part {
  if (kind === 'toast') return 'all';
  // TOAST relations are read by their index.
  if (kind === 'index') return schema === 'pg_toast' ? 'all' : 'first page';
  return pages ?? 'nothing';
}

/** Equal for a table, its indexes, its TOAST relation and the index of that. */
function tableOf({ relation, schema, name, table }: CatalogRelation): string {
  return JSON.stringify([relation.database, table?.schema ?? schema, table?.name ?? name]);
}

function keyOf({ database, file }: Pick<RelationFile, 'database' | 'file'>): string {
  return `${database}/${file}`;
}
