import { decodeCatalog } from '../../engines/postgres/catalog-encoding.ts';
import { getCatalog, listCatalogs } from '../../repository/catalog-archive.ts';
import { catalogPath } from '../../repository/layout.ts';
import type { LogOwner } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import { isDamage, type VerifyProblem } from '../verify/verify-problem.ts';

/** Opens every catalog of a system to its last line. */
export async function verifyCatalogs(
  repository: Repository,
  owner: LogOwner,
  signal: AbortSignal,
): Promise<VerifyProblem[]> {
  const problems: VerifyProblem[] = [];
  const { systemIdentifier } = owner;
  for (const place of await listCatalogs(repository, owner, { signal })) {
    try {
      const bytes = await getCatalog(repository, { ...owner, ...place }, { signal });
      if (bytes !== null) decodeCatalog(bytes, { ...place, systemIdentifier });
    } catch (error) {
      if (!isDamage(error)) throw error;
      const affects =
        'names of tables in the timeline: others serve, and nothing that is restored depends on it';
      problems.push({ object: catalogPath(owner, place), message: error.message, affects });
    }
  }
  return problems;
}
