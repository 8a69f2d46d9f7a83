import { AppError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import { identityPath, identityPrefix } from './layout.ts';
import type { Repository } from './repository.ts';
import { openSealed } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

/** A database system that an instance is or was: a new `initdb` under the same name makes another. */
export interface Identity {
  readonly instance: string;
  readonly engine: 'postgresql';
  readonly systemIdentifier: string;
  readonly serverVersion: number;
  readonly created: string;
}

/** Records that an instance is this system; there being such a record already is fine. */
export async function putIdentity(
  repository: Repository,
  identity: Identity,
  options: CallOptions = {},
): Promise<void> {
  const path = identityPath(identity.instance, identity.systemIdentifier);
  const writer = new SealedWriter({ kind: 'identity', path, keyring: repository.keyring, level: null });
  writer.finish({ identity });
  await repository.storage.put(path, writer.take(), options);
}

/** The systems an instance has been, in the order they were recorded. */
export async function readIdentities(
  repository: Repository,
  instance: string,
  options: CallOptions = {},
): Promise<Identity[]> {
  const identities: Identity[] = [];
  for await (const { key } of repository.storage.list(identityPrefix(instance), options)) {
    const object = await openSealed(
      repository.storage,
      { path: key, kind: 'identity', keyring: repository.keyring },
      options,
    );
    if (object !== null) identities.push(object.footer['identity'] as Identity);
  }
  return identities.sort((a, b) => (a.created < b.created ? -1 : 1));
}

/**
 * Refuses a system that is not known as this instance: its log and backups would mix with another's.
 *
 * @throws SYSTEM_MISMATCH, INSTANCE_NOT_FOUND when the repository knows nothing of this instance
 */
export async function checkIdentity(
  repository: Repository,
  system: { readonly instance: string; readonly systemIdentifier: string },
  options: CallOptions = {},
): Promise<void> {
  const path = identityPath(system.instance, system.systemIdentifier);
  if ((await repository.storage.head(path, options)) !== null) return;
  const known = await readIdentities(repository, system.instance, options);
  if (known.length === 0) {
    throw new AppError('INSTANCE_NOT_FOUND', `instance '${system.instance}' is not in this repository`, {
      hint: 'Run `aishell backup init` (it adds the instance to an existing repository).',
    });
  }
  throw new AppError(
    'SYSTEM_MISMATCH',
    `this server's system identifier is ${system.systemIdentifier}, but instance '${system.instance}' is ${known.map(each => each.systemIdentifier).join(' or ')}`,
    {
      hint: 'Is it another server, or was it made anew with initdb? Then give it a name of its own: `aishell backup init --name NAME`.',
    },
  );
}
