import { AppError } from '../../base/errors.ts';
import { decodeCatalog } from '../../engines/postgres/catalog-encoding.ts';
import type { CatalogSnapshot } from '../../engines/postgres/catalog-snapshot.ts';
import { getCatalog, listCatalogs } from '../../repository/catalog-archive.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LogView } from '../log/log-view.ts';
import { isOnChain } from './relation-names.ts';

/** The last catalog up to a position of the log that can be read, else the first one behind it; null when there is none. */
export async function catalogAt(
  { repository }: Pick<InstanceContext, 'repository'>,
  { owner, chain }: Pick<LogView, 'owner' | 'chain'>,
  at: { readonly lsn: bigint; readonly signal: AbortSignal },
): Promise<CatalogSnapshot | null> {
  const { lsn, signal } = at;
  const places = (await listCatalogs(repository, owner, { signal }))
    .filter(each => isOnChain(each, chain))
    .sort((a, b) => (a.lsn < b.lsn ? -1 : 1));
  const before = places.filter(each => each.lsn <= lsn);
  for (const place of [...before.toReversed(), ...places.slice(before.length)]) {
    try {
      const bytes = await getCatalog(repository, { ...owner, ...place }, { signal });
      const { systemIdentifier } = owner;
      if (bytes !== null) return decodeCatalog(bytes, { ...place, systemIdentifier });
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'CORRUPT') throw error;
    }
  }
  return null;
}
