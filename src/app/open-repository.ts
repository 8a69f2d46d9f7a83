import { resolveSecretRef } from '../base/secret.ts';
import type { Config, RepositoryKeyConfig } from '../config/config.ts';
import { parseKeyFile, type SlotSecret } from '../crypto/key-slots.ts';
import { openRepository, type Repository } from '../repository/repository.ts';
import { openStorage, parseStorageLocation } from '../storage/registry.ts';
import type { StorageLocation } from '../storage/storage.ts';

export interface OpenOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/**
 * Opens the repository of a configuration. It stands apart from everything that knows databases, because archiving one
 * log segment loads this and no more.
 *
 * @throws REPOSITORY_NOT_FOUND, KEY_WRONG, SECRET_UNAVAILABLE, UNSUPPORTED, STORAGE_UNREACHABLE
 */
export async function openConfiguredRepository(config: Config, options: OpenOptions): Promise<Repository> {
  const storage = openStorage(locationOf(config), options.env);
  const secret = await readRepositoryKey(config.repository.key, options);
  return await openRepository(
    storage,
    secret,
    options.signal === undefined ? {} : { signal: options.signal },
  );
}

/** Where the repository of a configuration lies, for threads that open it themselves. @throws UNSUPPORTED, USAGE */
export function locationOf(config: Config): StorageLocation {
  return parseStorageLocation(config.repository.storage);
}

/** What opens the repository, read from where the configuration says it is. @throws SECRET_UNAVAILABLE, KEY_WRONG */
export async function readRepositoryKey(key: RepositoryKeyConfig, options: OpenOptions): Promise<SlotSecret> {
  if (key.kind === 'passphrase') {
    const passphrase = await resolveSecretRef(key.passphrase, options);
    return { kind: 'passphrase', passphrase: passphrase.reveal() };
  }
  const text = await resolveSecretRef(`file:${key.path}`, options);
  return parseKeyFile(text.reveal(), key.path);
}
