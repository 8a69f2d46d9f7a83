import { randomBytes } from 'node:crypto';
import { AppError, messageOf } from '../base/errors.ts';
import { type KeySlot, parseKeySlot, type SlotSecret, unwrapKey, wrapKey } from '../crypto/key-slots.ts';
import { Keyring } from '../crypto/keyring.ts';
import type { CallOptions, Storage } from '../storage/storage.ts';
import { KEYS_PREFIX, REPOSITORY_FILE, slotPath } from './layout.ts';

/** An opened repository: where it is, and the keys to it. */
export interface Repository {
  readonly id: string;
  readonly storage: Storage;
  readonly keyring: Keyring;
}

interface RepositoryFacts {
  readonly format: number;
  readonly id: string;
  readonly created: string;
  readonly features: readonly string[];
}

/**
 * Creates a repository: its id, a first key generation, and a slot for each secret. The slots are written first: a
 * repository that exists always has them.
 *
 * @throws EXISTS when there is one already
 */
export async function createRepository(
  storage: Storage,
  secrets: readonly { readonly secret: SlotSecret; readonly label: string }[],
  options: CallOptions = {},
): Promise<Repository> {
  if ((await storage.head(REPOSITORY_FILE, options)) !== null) throw repositoryExists(storage);
  const created = new Date().toISOString();
  const id = randomBytes(16).toString('hex');
  const key = randomBytes(32);
  for (const { secret, label } of secrets) {
    const slot = await wrapKey(key, secret, { repositoryId: id, generation: 1, label, created });
    await storage.put(slotPath(1, slot.id), jsonBytes(slot), options);
  }
  const facts: RepositoryFacts = { format: 1, id, created, features: [] };
  if ((await storage.put(REPOSITORY_FILE, jsonBytes(facts), options)) === 'exists')
    throw repositoryExists(storage);
  return { id, storage, keyring: new Keyring(new Map([[1, key]])) };
}

/** Whether there is a repository at this storage. */
export async function repositoryExistsAt(storage: Storage): Promise<boolean> {
  return (await storage.head(REPOSITORY_FILE)) !== null;
}

/** @throws REPOSITORY_NOT_FOUND, KEY_WRONG, CORRUPT, UNSUPPORTED, STORAGE_UNREACHABLE */
export async function openRepository(
  storage: Storage,
  secret: SlotSecret,
  options: CallOptions = {},
): Promise<Repository> {
  const bytes = await storage.get(REPOSITORY_FILE, undefined, options);
  if (bytes === null) {
    throw new AppError('REPOSITORY_NOT_FOUND', `there is no repository at ${storage.description}`, {
      hint: 'Check `repository.storage` in aishell.yaml, or create one with `aishell backup init`.',
    });
  }
  const facts = parseFacts(bytes);
  const keys = new Map<number, Uint8Array>();
  const { slots, problems } = await readSlots(storage, options);
  for (const slot of slots) {
    if (slot.kind !== secret.kind || keys.has(slot.generation)) continue;
    const key = await unwrapKey(slot, secret, facts.id);
    if (key !== null) keys.set(slot.generation, key);
  }
  if (keys.size === 0) throw problems[0] ?? wrongKey(secret, storage);
  return { id: facts.id, storage, keyring: new Keyring(keys) };
}

/** Every key slot, oldest generation first. One that cannot be read is a problem of its own: another may still open. */
export async function readSlots(
  storage: Storage,
  options: CallOptions = {},
): Promise<{ readonly slots: readonly KeySlot[]; readonly problems: readonly AppError[] }> {
  const slots: KeySlot[] = [];
  const problems: AppError[] = [];
  for await (const { key } of storage.list(KEYS_PREFIX, options)) {
    const bytes = await storage.get(key, undefined, options);
    try {
      if (bytes !== null) slots.push(parseKeySlot(bytes, key));
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      problems.push(error);
    }
  }
  return { slots, problems };
}

function parseFacts(bytes: Uint8Array): RepositoryFacts {
  let facts: RepositoryFacts;
  try {
    facts = JSON.parse(Buffer.from(bytes).toString('utf8')) as RepositoryFacts;
    if (typeof facts.id !== 'string' || !/^[0-9a-f]{32}$/.test(facts.id) || !Array.isArray(facts.features))
      throw new Error('members are missing');
  } catch (error) {
    throw new AppError('CORRUPT', `object '${REPOSITORY_FILE}' is damaged: ${messageOf(error)}`, {
      hint: 'It holds the format, the id and nothing else: copy it back from another copy of this repository.',
      details: { object: REPOSITORY_FILE },
      cause: error,
    });
  }
  if (facts.format !== 1 || facts.features.length > 0) {
    throw new AppError(
      'UNSUPPORTED',
      `unable to open the repository: format ${facts.format}${facts.features.length > 0 ? ` with ${facts.features.join(', ')}` : ''} is not known`,
      {
        hint: 'It was made by a newer version of aishell: install that one.',
      },
    );
  }
  return facts;
}

function wrongKey(secret: SlotSecret, storage: Storage): AppError {
  const what = secret.kind === 'passphrase' ? 'passphrase' : 'key file';
  return new AppError('KEY_WRONG', `the ${what} does not open the repository at ${storage.description}`, {
    hint:
      secret.kind === 'passphrase'
        ? 'Check `repository.key.passphrase` in aishell.yaml, or use the passphrase of the recovery kit that `backup init` printed.'
        : 'Check `repository.key.file` in aishell.yaml: it may be the key of another repository.',
  });
}

function repositoryExists(storage: Storage): AppError {
  return new AppError('EXISTS', `there is a repository already at ${storage.description}`, {
    hint: 'Nothing was changed. Use it as it is, or choose another location.',
  });
}

function jsonBytes(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value, null, 1)}\n`, 'utf8');
}
