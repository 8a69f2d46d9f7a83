import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { AppError } from '../../base/errors.ts';
import { FIRST_USER_FILE } from '../../engines/postgres/catalog-snapshot.ts';
import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { IsolatedServer } from '../../engines/postgres/isolated-server.ts';
import type { SideFiles } from './plan-files.ts';
import type { FileSelection, PageOfFile } from './select-files.ts';

/**
 * Proves that a side instance is as a whole one would be in all that is read of it. A record of the log changes the pages that it
 * names, and no others: so a page that was restored is right, unless the server has missed it. And the catalogs, which
 * were restored whole, say themselves which files are theirs and those of the wanted tables: none of these may be left out.
 *
 * @param databases numbers of those that are read
 * @throws RECOVERY_FAILED when something is missing
 */
export async function proveFiles(
  server: IsolatedServer,
  { selection }: Pick<SideFiles, 'selection'>,
  databases: Iterable<number>,
  signal: AbortSignal,
): Promise<void> {
  if (selection === null) return;
  const page = await missedPage(server.logFile, selection, signal);
  if (page !== null) throw notWhole(`page ${page.block} of file ${page.file} of database ${page.database}`);
  for (const database of databases) {
    const session = await openDatabase(server, database, signal);
    if (session === null) continue;
    try {
      const [missing] = await queryRows<{ name: string }>(session, 'look for what was left out', {
        text: missingSql,
        values: [selection.leftOut(database), selection.wanted(database), FIRST_USER_FILE],
        signal,
      });
      if (missing !== undefined) throw notWhole(missing.name);
    } finally {
      await session.end().catch(() => undefined);
    }
  }
}

function notWhole(what: string): AppError {
  return new AppError('RECOVERY_FAILED', `${what} is needed and was not restored`);
}

/** Null: there is no such database at this moment, or it takes no connections. */
export async function openDatabase(
  server: IsolatedServer,
  database: number,
  signal: AbortSignal,
): Promise<Session | null> {
  const asked = await server.connect(undefined, signal);
  const { name } = await queryRow<{ name: string | null }>(asked, 'read the name of a database', {
    text: 'select (select datname from pg_database where oid = $1::int8::oid and datallowconn)::text as name',
    values: [database],
    signal,
  }).finally(() => asked.end().catch(() => undefined));
  return name === null ? null : await server.connect(name, signal);
}

// Of a TOAST relation and its index, the table is the one that has it.
const missingSql = `
  select c.oid::regclass::text as name
  from pg_class c
    left join pg_index i on i.indexrelid = c.oid
    left join pg_class o on o.reltoastrelid = coalesce(i.indrelid, c.oid)
    left join pg_class t on t.oid = coalesce(o.oid, i.indrelid, c.oid)
  where pg_relation_filenode(c.oid) = any($1::int8[]::oid[])
    and (t.oid < $3::int8::oid or pg_relation_filenode(t.oid) = any($2::int8[]::oid[]))
  limit 1`;

/**
 * The first page that is needed and that the server has missed, by its own words.
 * @source xlogutils.c, report_invalid_page; relpath.c, GetRelationPath
 */
async function missedPage(
  logFile: string,
  selection: FileSelection,
  signal: AbortSignal,
): Promise<PageOfFile | null> {
  const words =
    /WARNING: +page (\d+) of relation (?:base\/(\d+)|pg_tblspc\/\d+\/[^/]+\/(\d+)|(global))\/(\d+) (?:is uninitialized|does not exist)/;
  const lines = createInterface({ input: createReadStream(logFile), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    signal.throwIfAborted();
    const match = words.exec(line);
    if (match === null) continue;
    const [, block, inDefault, inTablespace, , file] = match;
    const page = {
      database: Number(inDefault ?? inTablespace ?? 0),
      file: Number(file),
      block: Number(block),
    };
    if (selection.needsPage(page)) return page;
  }
  return null;
}
