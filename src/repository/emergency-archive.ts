import type { CallOptions } from '../storage/storage.ts';
import { emergencyPath, emergencyPrefix } from './layout.ts';
import type { Repository } from './repository.ts';
import { openSealed } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

const RESUMED = 'resumed';

/** Which stop of which instance's writes. */
export interface EmergencyOwner {
  readonly instance: string;
  readonly stop: string;
}

/** A stop that is on record. */
interface KeptStop {
  readonly stop: string;
  /** The highest there is; it holds everything. */
  readonly sequence: number;
  readonly isResumed: boolean;
}

/** Stores a record of what will be changed, plain JSON. One of this number that is there already stays. */
export async function putStopRecord(
  repository: Repository,
  owner: EmergencyOwner & { readonly sequence: number },
  record: unknown,
  options: CallOptions = {},
): Promise<'created' | 'exists'> {
  return await put(
    repository,
    emergencyPath(owner.instance, owner.stop, nameOf(owner.sequence)),
    record,
    options,
  );
}

/** Stores that a stop was put back. */
export async function putResumed(
  repository: Repository,
  owner: EmergencyOwner,
  report: unknown,
  options: CallOptions = {},
): Promise<void> {
  await put(repository, emergencyPath(owner.instance, owner.stop, RESUMED), report, options);
}

/** The stops of an instance, in the order of their ids, which is that of their times. */
export async function listStops(
  repository: Repository,
  instance: string,
  options: CallOptions = {},
): Promise<KeptStop[]> {
  const sequences = new Map<string, number>();
  const resumed = new Set<string>();
  for await (const { key } of repository.storage.list(emergencyPrefix(instance), options)) {
    const [, stop, name] = /\/([^/]+)\/(\d{4}|resumed)$/.exec(key) ?? [];
    if (stop === undefined || name === undefined) continue;
    if (name === RESUMED) resumed.add(stop);
    else sequences.set(stop, Math.max(Number(name), sequences.get(stop) ?? 0));
  }
  return [...sequences]
    .map(([stop, sequence]) => ({ stop, sequence, isResumed: resumed.has(stop) }))
    .sort((a, b) => (a.stop < b.stop ? -1 : 1));
}

/** The stops of an instance that nobody has put back yet, in the same order. */
export async function listOpenStops(
  repository: Repository,
  instance: string,
  options: CallOptions = {},
): Promise<KeptStop[]> {
  return (await listStops(repository, instance, options)).filter(each => !each.isResumed);
}

/** What was stored when a stop was put back; null when it was not. @throws CORRUPT */
export async function getResumed(
  repository: Repository,
  owner: EmergencyOwner,
  options: CallOptions = {},
): Promise<unknown> {
  return await get(repository, emergencyPath(owner.instance, owner.stop, RESUMED), options);
}

/** Whether a stop was put back. */
export async function wasResumed(
  repository: Repository,
  owner: EmergencyOwner,
  options: CallOptions = {},
): Promise<boolean> {
  const path = emergencyPath(owner.instance, owner.stop, RESUMED);
  return (await repository.storage.head(path, options)) !== null;
}

/** A stored record as it was put; null when there is none. @throws CORRUPT */
export async function getStopRecord(
  repository: Repository,
  owner: EmergencyOwner & { readonly sequence: number },
  options: CallOptions = {},
): Promise<unknown> {
  return await get(repository, emergencyPath(owner.instance, owner.stop, nameOf(owner.sequence)), options);
}

async function get(repository: Repository, path: string, options: CallOptions): Promise<unknown> {
  const target = { path, kind: 'emergency', keyring: repository.keyring } as const;
  return (await openSealed(repository.storage, target, options))?.footer['emergency'] ?? null;
}

async function put(
  repository: Repository,
  path: string,
  emergency: unknown,
  options: CallOptions,
): Promise<'created' | 'exists'> {
  const writer = new SealedWriter({ kind: 'emergency', path, keyring: repository.keyring, level: null });
  writer.finish({ emergency });
  return await repository.storage.put(path, writer.take(), options);
}

function nameOf(sequence: number): string {
  return String(sequence).padStart(4, '0');
}
