import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { IsolatedServer } from '../../engines/postgres/isolated-server.ts';
import { formatRowPlace, type RowPlace } from '../../engines/postgres/wal-row-changes.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey } from '../catalog/relation-names.ts';
import { openDatabase } from '../side/prove-files.ts';
import type { RowSpool } from './row-spool.ts';
import { readShape, type TableShape } from './table-shape.ts';

/** A version of a row that is to be read. */
export interface WantedRow {
  readonly index: number;
  readonly relation: RelationFile;
  readonly place: RowPlace;
}

export type ExportFormat = 'sql' | 'csv';

/** So many are asked for at once. */
const BATCH_ROWS = 500;

/** Text of values must not depend on how a database or a role is set up. */
const settingsSql = `select set_config('extra_float_digits', '1', false), set_config('bytea_output', 'hex', false),
  set_config('lc_monetary', 'C', false)`;

/** A server that stands at one moment, read by the places of rows. Shapes of tables are those of this moment. */
export class RowReader {
  readonly #server: IsolatedServer;
  readonly #format: ExportFormat;
  readonly #signal: AbortSignal;
  readonly #clients = new Map<number, Promise<Session | null>>();
  readonly #shapes = new Map<string, Promise<TableShape | 'other' | null>>();

  constructor(server: IsolatedServer, format: ExportFormat, signal: AbortSignal) {
    this.#server = server;
    this.#format = format;
    this.#signal = signal;
  }

  /** Reads rows into a spool; those that are not there, and those of no table, are left out. */
  async read(wanted: readonly WantedRow[], spool: RowSpool): Promise<void> {
    for (let at = 0; at < wanted.length; at += BATCH_ROWS) {
      this.#signal.throwIfAborted();
      const batch = wanted.slice(at, at + BATCH_ROWS);
      const found = new Map<number, { readonly values: (string | null)[]; readonly whole: string | null }>();
      for (const rows of byRelation(batch)) {
        const places = new Map(rows.map(({ place, index }) => [formatRowPlace(place), index]));
        for (const row of await this.#readPlaces(rows[0]!.relation, [...places.keys()]))
          found.set(places.get(row.place)!, row);
      }
      for (const { index } of batch) {
        const row = found.get(index);
        if (row !== undefined) await spool.add({ index, values: row.values, whole: row.whole });
      }
    }
  }

  /** What a file's table is like at this moment; null: there is none. */
  shapeOf(relation: RelationFile): Promise<TableShape | 'other' | null> {
    const key = fileKey(relation);
    const known = this.#shapes.get(key);
    if (known !== undefined) return known;
    const shape = this.#client(relation.database).then(client =>
      client === null ? null : readShape(client, relation, this.#signal),
    );
    this.#shapes.set(key, shape);
    return shape;
  }

  async #readPlaces(
    relation: RelationFile,
    places: readonly string[],
  ): Promise<{ place: string; values: (string | null)[]; whole: string | null }[]> {
    const [shape, client] = [await this.shapeOf(relation), await this.#client(relation.database)];
    if (shape === null || shape === 'other' || client === null) return [];
    return await queryRows(client, `read rows of ${shape.name}`, {
      text: selectFor(shape, this.#format),
      values: [places],
      signal: this.#signal,
    });
  }

  /** Null: there is no such database at this moment, or it takes no connections. */
  #client(database: number): Promise<Session | null> {
    const known = this.#clients.get(database);
    if (known !== undefined) return known;
    const opened = this.#open(database);
    this.#clients.set(database, opened);
    return opened;
  }

  async #open(database: number): Promise<Session | null> {
    const client = await openDatabase(this.#server, database, this.#signal);
    if (client === null) return null;
    await queryRows(client, 'set up the session', { text: settingsSql });
    return client;
  }

  async close(): Promise<void> {
    for (const opened of this.#clients.values()) {
      const client = await opened.catch(() => null);
      await client?.end().catch(() => undefined);
    }
  }
}

function byRelation(rows: readonly WantedRow[]): Iterable<WantedRow[]> {
  const groups = new Map<string, WantedRow[]>();
  for (const row of rows) {
    const key = fileKey(row.relation);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return groups.values();
}

/** `format` writes a value as its type does; a cast to text may do something else. */
function selectFor({ name, quoted, key }: TableShape, format: ExportFormat): string {
  const column = (each: string): string => `aishell_row.${each}`;
  const values = quoted.map(each =>
    format === 'sql'
      ? `format('%L', ${column(each)})`
      : `case when num_nulls(${column(each)}) = 0 then format('%s', ${column(each)}) end`,
  );
  const whole = key === null && format === 'sql' ? `format('%L', (aishell_row.*)::text)` : 'null';
  return `select aishell_row.ctid::text as place, array[${values.join(', ')}]::text[] as values, ${whole} as whole
          from only ${name} as aishell_row where aishell_row.ctid = any($1::tid[])`;
}
