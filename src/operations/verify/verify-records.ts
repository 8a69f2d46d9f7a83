import { emergencyPrefix, incidentsPrefix } from '../../repository/layout.ts';
import type { Repository } from '../../repository/repository.ts';
import { openSealed } from '../../repository/sealed-reader.ts';
import { isDamage, type VerifyProblem } from './verify-problem.ts';

/** Opens every record of stops of writes and of incidents; each is an object without frames, so that is all of it. */
export async function verifyRecords(
  repository: Repository,
  instance: string,
  signal: AbortSignal,
): Promise<VerifyProblem[]> {
  const problems: VerifyProblem[] = [];
  for (const [kind, prefix, affects] of [
    [
      'emergency',
      emergencyPrefix(instance),
      'putting back what a stop of writes changed, from the repository',
    ],
    ['incident', incidentsPrefix(instance), 'what is known of an incident'],
  ] as const) {
    for await (const { key } of repository.storage.list(prefix, { signal })) {
      try {
        await openSealed(repository.storage, { path: key, kind, keyring: repository.keyring }, { signal });
      } catch (error) {
        if (!isDamage(error)) throw error;
        problems.push({ object: key, message: error.message, affects });
      }
    }
  }
  return problems;
}
