import { abortable, delay } from '../base/abort.ts';
import { AppError } from '../base/errors.ts';
import {
  findLiveRelation,
  findReplacedRelations,
  type LiveRelation,
  listLiveDatabases,
  readLiveRelations,
} from '../engines/postgres/live-relations.ts';
import { isSeen } from '../engines/postgres/transaction-owner.ts';
import type { RelationFile } from '../engines/postgres/wal-transactions.ts';
import {
  describeRelation,
  fileKey,
  type RelationName,
  type RelationNames,
} from '../operations/catalog/relation-names.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import type { RuledTable } from './rules.ts';

/** Estimates of rows are no older than this, unless reading them takes long. */
const FRESH_MS = 60_000;
/** Where relations were made or altered, names are read again so soon. */
const SETTLE_MS = 1000;
/** Reading names takes no more than this share of the time. */
const EFFORT = 200;
const LOOK_MS = 500;
/** A commit that waits for a standby is in the log, and nobody sees it. */
const SEEN_MS = 2000;
const SEEN_LOOK_MS = 2;
/** The log that says what became of a file may be on its way for long. */
const REMEMBER_MS = 600_000;

interface LiveDatabaseNames {
  readonly relations: Map<string, LiveRelation>;
  /** Files that are no relation's any more. */
  readonly gone: ReadonlyMap<string, { readonly relation: LiveRelation; readonly sinceMs: number }>;
  /** Rows of partitioned tables, by their number. */
  readonly rootRows: ReadonlyMap<number, number>;
  readonly readMs: number;
  readonly tookMs: number;
  /** Since when the database is not there any more. */
  readonly goneMs: number | null;
}

/** What files of running databases belong to, kept in memory: what was dropped a moment ago is still there. */
export class LiveTables {
  readonly #sessions: DatabaseSessions;
  /** All databases were read. */
  readonly #onFirst: () => void;
  #names = new Map<number, string>();
  readonly #databases = new Map<number, LiveDatabaseNames>();
  readonly #staleSinceMs = new Map<number, number>();
  /** Databases whose catalog of relations was itself rewritten. */
  readonly movedCatalogs = new Set<string>();

  constructor(sessions: DatabaseSessions, onFirst: () => void) {
    this.#sessions = sessions;
    this.#onFirst = onFirst;
  }

  /** Reads all databases, then again what has changed, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let isFirst = true;
    while (!signal.aborted) {
      try {
        await this.#readDue(signal, isFirst);
        if (isFirst) this.#onFirst();
        isFirst = false;
      } catch {
        // The server is down, which is told where the log is received.
      }
      await delay(LOOK_MS, signal).catch(() => undefined);
    }
  }

  /** Relations were made, altered or dropped in it. */
  expire(database: number): void {
    if (!this.#staleSinceMs.has(database)) this.#staleSinceMs.set(database, performance.now());
  }

  databaseName(oid: number): string | null {
    return this.#names.get(oid) ?? null;
  }

  /** Null where nobody has asked for it yet. */
  relation(file: RelationFile): LiveRelation | null {
    const database = this.#databases.get(file.database);
    const key = fileKey(file);
    return database?.relations.get(key) ?? database?.gone.get(key)?.relation ?? null;
  }

  /** Databases with tables, those with the most rows first. */
  largestDatabases(): string[] {
    const sizes = [...this.#databases.keys()].map(oid => {
      const tables = this.tablesOf(oid);
      return { oid, count: tables.length, rows: tables.reduce((sum, { rows }) => sum + (rows ?? 0), 0) };
    });
    return sizes
      .filter(({ count }) => count > 0)
      .sort((a, b) => b.rows - a.rows)
      .flatMap(({ oid }) => this.databaseName(oid) ?? []);
  }

  /** All tables of a database. */
  tablesOf(database: number): LiveRelation[] {
    const relations = [...(this.#databases.get(database)?.relations.values() ?? [])];
    return relations.filter(({ kind, schema }) => kind === 'table' && schema !== 'pg_catalog');
  }

  /** Asks the server, for what is new or must be exact. */
  async ask(file: RelationFile): Promise<LiveRelation | null> {
    const name = await this.#nameOf(file.database);
    if (name === null) return null;
    const found = await this.#sessions.asking(name, client => findLiveRelation(client, file.file));
    if (found !== null) this.#keep(found);
    return found;
  }

  /**
   * Asks the server what became of relations whose files a transaction removed, and what the files are that it made. Those
   * that are still there, as they were called; null where the server does not answer.
   */
  async stillThere(files: {
    readonly removed: readonly RelationFile[];
    readonly made: readonly RelationFile[];
    /** Of the transaction, in 32 bits. */
    readonly xid: number;
  }): Promise<ReadonlySet<string> | null> {
    const { removed, made, xid } = files;
    const oid = removed[0]?.database ?? 0;
    const database = this.databaseName(oid) ?? '';
    const asked = new Set<number>();
    const left = new Set<number>();
    for (let hasAsked = false; ; hasAsked = true) {
      // What a file belonged to may have become known while the server was asked, as of one that was written anew twice.
      const known = removed.flatMap(each => this.relation(each) ?? []);
      if (hasAsked && known.every(each => asked.has(each.oid)))
        return new Set(
          known
            .filter(each => left.has(each.oid))
            .map(({ relation }) => describeRelation(this.#relationName(relation))),
        );
      for (const each of known) asked.add(each.oid);
      const about = { files: made.map(({ file }) => file), oids: [...asked] };
      const found = await this.#untilSeen(database, xid)
        .then(() => this.#sessions.asking(database, client => findReplacedRelations(client, about)))
        .catch(() => null);
      if (found === null) return null;
      this.#replace(oid, found);
      for (const each of found) left.add(each.oid);
    }
  }

  /** The table as the rules know it: rows of partitions count for the whole. */
  whole(relation: LiveRelation): RuledTable {
    const { root, schema, name } = relation;
    if (root === null) return this.single(relation);
    const rows = this.#databases.get(relation.relation.database)?.rootRows.get(root.oid) ?? relation.rows;
    const database = this.databaseName(relation.relation.database) ?? '';
    return { database, schema: root.schema, table: root.name, also: { schema, table: name }, rows };
  }

  single({ root, schema, name, rows, relation }: LiveRelation): RuledTable {
    const database = this.databaseName(relation.database) ?? '';
    const also = root === null ? null : { schema: root.schema, table: root.name };
    return { database, schema, table: name, also, rows };
  }

  /** The same for what names the acts of a transaction. */
  readonly names: RelationNames = {
    databaseOf: oid => Promise.resolve(this.databaseName(oid)),
    nameOf: relation => Promise.resolve(this.#relationName(relation)),
    learn: () => undefined,
    catalogs: 1,
    problems: [],
  };

  #relationName(relation: RelationFile): RelationName {
    const database = this.databaseName(relation.database);
    const found = this.relation(relation);
    if (found === null || found.schema === 'pg_catalog')
      return {
        ...{ relation, database, name: null, table: null, partitionOf: null, estimatedRows: null },
        // What is not known was made a moment ago.
        kind: 'system',
      };
    const { kind, root, schema, name, rows } = found;
    return {
      relation,
      database,
      kind,
      name: { schema, name },
      table: null,
      partitionOf: root,
      estimatedRows: rows,
    };
  }

  async #nameOf(oid: number): Promise<string | null> {
    if (!this.#names.has(oid)) await this.#readDatabases();
    return this.databaseName(oid);
  }

  async #readDatabases(): Promise<ReadonlyMap<number, boolean>> {
    const databases = await this.#sessions.control(listLiveDatabases);
    // Those that were dropped keep their names here.
    for (const { oid, name } of databases) this.#names.set(oid, name);
    return new Map(databases.map(({ oid, allowed }) => [oid, allowed]));
  }

  async #readDue(signal: AbortSignal, isFirst: boolean): Promise<void> {
    const now = performance.now();
    const due = new Set(
      [...this.#databases].filter(([oid, each]) => this.#isDue(oid, each, now)).map(([oid]) => oid),
    );
    for (const oid of this.#staleSinceMs.keys()) if (!this.#databases.has(oid)) due.add(oid);
    if (!isFirst && due.size === 0) return;
    const listed = await this.#readDatabases();
    for (const [oid, allowed] of listed) {
      if (!allowed || !(isFirst || due.has(oid))) continue;
      // One that does not let us in has no names; it is tried again when something changes in it.
      await abortable(this.#read(oid), signal).catch(() => signal.throwIfAborted());
    }
    for (const oid of due) if (!listed.has(oid)) this.#forget(oid, now);
  }

  #isDue(oid: number, { readMs, tookMs }: LiveDatabaseNames, now: number): boolean {
    const stale = this.#staleSinceMs.get(oid);
    const isStale = stale !== undefined && now - stale > SETTLE_MS;
    return now - readMs > Math.max(tookMs * EFFORT, isStale ? SETTLE_MS : FRESH_MS);
  }

  /** One that was dropped: the log that says so may still be on its way. */
  #forget(oid: number, now: number): void {
    this.#staleSinceMs.delete(oid);
    const known = this.#databases.get(oid);
    if (known === undefined) return;
    if (known.goneMs === null) this.#databases.set(oid, { ...known, readMs: now, goneMs: now });
    else if (now - known.goneMs > REMEMBER_MS) this.#databases.delete(oid);
    else this.#databases.set(oid, { ...known, readMs: now });
  }

  async #read(oid: number): Promise<void> {
    const name = this.#names.get(oid) ?? '';
    const startedMs = performance.now();
    this.#staleSinceMs.delete(oid);
    const client = await this.#sessions.open(name);
    let found: readonly LiveRelation[];
    try {
      found = await readLiveRelations(client);
    } finally {
      await client.end().catch(() => undefined);
    }
    const readMs = performance.now();
    const relations = new Map(found.map(each => [fileKey(each.relation), each]));
    const before = this.#databases.get(oid);
    const gone = new Map(
      [...(before?.gone ?? [])].filter(([, { sinceMs }]) => readMs - sinceMs < REMEMBER_MS),
    );
    for (const [key, each] of before?.relations ?? [])
      if (!relations.has(key)) gone.set(key, { relation: each, sinceMs: readMs });
    this.#databases.set(oid, {
      ...{ relations, gone, readMs, goneMs: null, tookMs: readMs - startedMs },
      rootRows: sumByRoot(found),
    });
    for (const { name: each, schema, relation } of found)
      if (each === 'pg_class' && schema === 'pg_catalog')
        this.movedCatalogs.add(`${relation.database}/${relation.file}`);
  }

  /** @throws DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED; TIMEOUT when it goes on */
  async #untilSeen(database: string, xid: number): Promise<void> {
    const giveUpMs = performance.now() + SEEN_MS;
    while (!(await this.#sessions.asking(database, client => isSeen(client, xid)))) {
      if (performance.now() > giveUpMs) throw new AppError('TIMEOUT', `transaction ${xid} is not seen yet`);
      await delay(SEEN_LOOK_MS);
    }
  }

  /** They have these files now; those that they had are gone. */
  #replace(database: number, found: readonly LiveRelation[]): void {
    const known = this.#databases.get(database);
    if (known === undefined || found.length === 0) return;
    const now = new Map(found.map(each => [each.oid, fileKey(each.relation)]));
    const gone = new Map(known.gone);
    for (const [key, relation] of known.relations) {
      if ((now.get(relation.oid) ?? key) === key) continue;
      known.relations.delete(key);
      gone.set(key, { relation, sinceMs: performance.now() });
    }
    this.#databases.set(database, { ...known, gone });
    for (const each of found) this.#keep(each);
  }

  #keep(found: LiveRelation): void {
    const known = this.#databases.get(found.relation.database);
    if (known === undefined) return;
    known.relations.set(fileKey(found.relation), found);
    this.#databases.set(found.relation.database, { ...known, rootRows: sumByRoot(known.relations.values()) });
  }
}

function sumByRoot(relations: Iterable<LiveRelation>): Map<number, number> {
  const sums = new Map<number, number>();
  for (const { root, rows } of relations)
    if (root !== null && rows !== null) sums.set(root.oid, (sums.get(root.oid) ?? 0) + rows);
  return sums;
}
