import { AppError, messageOf } from '../../base/errors.ts';
import { catalogDigest, encodeCatalog } from '../../engines/postgres/catalog-encoding.ts';
import {
  type CatalogSnapshot,
  readCatalog,
  readCatalogPlace,
} from '../../engines/postgres/catalog-snapshot.ts';
import { connect } from '../../engines/postgres/connection.ts';
import { catalogDigestAt, listCatalogs, putCatalog } from '../../repository/catalog-archive.ts';
import { checkIdentity } from '../../repository/identity.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';

export interface RecordedCatalog {
  /** `same`: one that is stored has the same names, or will do. */
  readonly outcome: 'stored' | 'same';
  readonly lsn: bigint;
  readonly timeline: number;
}

/**
 * Asks the running server what its relations are called, and stores that when it differs from what was stored last. To
 * be called whenever files turn up in the log that no catalog names: a table that is dropped later keeps its name only if
 * it is in one of them. With `lsn`, where they turned up: one that was stored at or behind it already will do.
 *
 * @throws DATABASE_UNREACHABLE, DATABASE_DENIED, SYSTEM_MISMATCH when the server is none of this instance's systems
 */
export async function recordCatalog(
  context: Pick<InstanceContext, 'instance' | 'repository' | 'connection'>,
  { lsn = null }: { readonly lsn?: bigint | null },
  signal: AbortSignal,
): Promise<RecordedCatalog> {
  const { instance, repository } = context;
  const open = (database?: string): ReturnType<typeof connect> =>
    connect(context.connection, { signal, ...(database === undefined ? {} : { database }) });
  const { systemIdentifier, timeline } = await readCatalogPlace(open, signal);
  const owner = { instance, systemIdentifier };
  await checkIdentity(repository, owner, { signal });
  if (lsn !== null) {
    const stored = await listCatalogs(repository, owner, { signal });
    const known = stored.find(each => each.timeline === timeline && each.lsn >= lsn);
    if (known !== undefined) return { outcome: 'same', ...known };
  }
  return storeCatalog(context, await readCatalog(open, signal), signal);
}

async function storeCatalog(
  { instance, repository }: Pick<InstanceContext, 'instance' | 'repository'>,
  snapshot: CatalogSnapshot,
  signal: AbortSignal,
): Promise<RecordedCatalog> {
  const { systemIdentifier, timeline, lsn } = snapshot;
  const owner = { instance, systemIdentifier };
  const digest = catalogDigest(snapshot);
  const newest = (await listCatalogs(repository, owner, { signal })).findLast(
    each => each.timeline === timeline && each.lsn <= lsn,
  );
  if (newest !== undefined) {
    const known = await catalogDigestAt(repository, { ...owner, ...newest }, { signal });
    if (known === digest) return { outcome: 'same', lsn, timeline };
  }
  const bytes = encodeCatalog(snapshot);
  await putCatalog(repository, { ...owner, timeline, lsn, bytes, digest }, { signal });
  return { outcome: 'stored', lsn, timeline };
}

/** A catalog that is locked is not waited for. */
const LIMIT_MS = 10_000;

/**
 * The same as a side line of other work, which goes on without it: a catalog that could not be recorded costs names, and
 * that is told.
 */
export async function tryRecordCatalog(
  context: Pick<InstanceContext, 'instance' | 'repository' | 'connection'>,
  { signal, onEvent }: RunOptions,
): Promise<RecordedCatalog | null> {
  const tooLong = AbortSignal.timeout(LIMIT_MS);
  try {
    return await recordCatalog(context, {}, AbortSignal.any([signal, tooLong]));
  } catch (error) {
    signal.throwIfAborted();
    if (!tooLong.aborted && !(error instanceof AppError)) throw error;
    const why = tooLong.aborted ? `it took longer than ${LIMIT_MS / 1000} seconds` : messageOf(error);
    const message = `the names of tables could not be recorded: ${why}`;
    onEvent({ type: 'note', level: 'warning', message });
    return null;
  }
}
