import type { CallOptions } from '../storage/storage.ts';
import { incidentPath, incidentsPrefix } from './layout.ts';
import type { Repository } from './repository.ts';
import { openSealed } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

/** Which incident of which instance. */
export interface IncidentOwner {
  readonly instance: string;
  readonly incident: string;
}

/** The newest state of an incident that is stored. */
export interface StoredIncident {
  readonly incident: string;
  /** From 1; each later state has a higher one. */
  readonly sequence: number;
}

/** Stores a state of an incident, plain JSON. One of this number that is there already stays. */
export async function putIncident(
  repository: Repository,
  owner: IncidentOwner & { readonly sequence: number },
  incident: unknown,
  options: CallOptions = {},
): Promise<'created' | 'exists'> {
  const path = pathOf(owner);
  const writer = new SealedWriter({ kind: 'incident', path, keyring: repository.keyring, level: null });
  writer.finish({ incident });
  return await repository.storage.put(path, writer.take(), options);
}

/** The incidents of an instance in the order of their ids, which is that of their times. */
export async function listIncidents(
  repository: Repository,
  instance: string,
  options: CallOptions = {},
): Promise<StoredIncident[]> {
  const found = new Map<string, number>();
  for await (const { key } of repository.storage.list(incidentsPrefix(instance), options)) {
    const [, incident, name] = /\/([^/]+)\/(\d{4,})$/.exec(key) ?? [];
    if (incident === undefined) continue;
    found.set(incident, Math.max(Number(name), found.get(incident) ?? 0));
  }
  return [...found]
    .map(([incident, sequence]) => ({ incident, sequence }))
    .sort((a, b) => (a.incident < b.incident ? -1 : 1));
}

/** A stored state as it was put; null when there is none. @throws CORRUPT */
export async function getIncident(
  repository: Repository,
  owner: IncidentOwner & { readonly sequence: number },
  options: CallOptions = {},
): Promise<unknown> {
  const target = { path: pathOf(owner), kind: 'incident', keyring: repository.keyring } as const;
  return (await openSealed(repository.storage, target, options))?.footer['incident'] ?? null;
}

function pathOf(owner: IncidentOwner & { readonly sequence: number }): string {
  return incidentPath(owner.instance, owner.incident, String(owner.sequence).padStart(4, '0'));
}
