import { AppError } from '../../base/errors.ts';
import { getIncident, listIncidents, putIncident } from '../../repository/incident-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import type { CallOptions } from '../../storage/storage.ts';
import { type Incident, parseIncident } from './incident.ts';

interface IncidentOwner {
  readonly instance: string;
  readonly repository: Repository;
}

/** Stores the next state of an incident. @throws LOCKED another process stored one of this number */
export async function saveIncident(
  { repository, instance }: IncidentOwner,
  incident: Incident,
  options: CallOptions = {},
): Promise<void> {
  const owner = { instance, incident: incident.id, sequence: incident.sequence };
  if ((await putIncident(repository, owner, incident, options)) === 'created') return;
  throw new AppError('LOCKED', `unable to store incident '${incident.id}': somebody else has changed it`, {
    hint: 'Try it again.',
  });
}

/**
 * Changes an incident that may be changed by others meanwhile, such as the agent: what is stored last is what `change` gets.
 *
 * @throws INCIDENT_NOT_FOUND CORRUPT
 */
export async function updateIncident(
  owner: IncidentOwner,
  id: string,
  change: (incident: Incident) => Omit<Incident, 'sequence' | 'updatedAt'>,
  options: CallOptions = {},
): Promise<Incident> {
  for (let attempt = 1; ; attempt += 1) {
    const known = await readIncident(owner, id, options);
    const next: Incident = {
      ...change(known),
      sequence: known.sequence + 1,
      updatedAt: new Date().toISOString(),
    };
    const place = { instance: owner.instance, incident: id, sequence: next.sequence };
    if ((await putIncident(owner.repository, place, next, options)) === 'created') return next;
    if (attempt === 20) throw new AppError('LOCKED', `unable to change incident '${id}': others do so too`);
  }
}

/** The last state of one: by its id, the end of its id, or the last there is. @throws INCIDENT_NOT_FOUND CORRUPT */
export async function readIncident(
  { repository, instance }: IncidentOwner,
  id: string | 'latest',
  options: CallOptions = {},
): Promise<Incident> {
  const all = await listIncidents(repository, instance, options);
  const fitting =
    id === 'latest'
      ? all.slice(-1)
      : all.filter(each => each.incident === id || each.incident.endsWith(`_${id}`));
  const [found] = fitting;
  if (found === undefined || fitting.length > 1) {
    const why = found === undefined ? 'there is none' : `${fitting.length} have that ending`;
    throw new AppError('INCIDENT_NOT_FOUND', `unable to find incident '${id}' of '${instance}': ${why}`, {
      hint:
        all.length === 0
          ? 'None is on record: no agent has noticed one. `aishell backup timeline` shows what happened, by the log.'
          : '`aishell incident list` shows them all.',
    });
  }
  return parseIncident(
    await getIncident(repository, { instance, ...found }, options),
    `incident '${found.incident}'`,
  );
}

/** The last states of all of an instance, oldest first. @throws CORRUPT */
export async function readIncidents(
  { repository, instance }: IncidentOwner,
  options: CallOptions = {},
): Promise<Incident[]> {
  const incidents: Incident[] = [];
  for (const found of await listIncidents(repository, instance, options)) {
    const stored = await getIncident(repository, { instance, ...found }, options);
    incidents.push(parseIncident(stored, `incident '${found.incident}'`));
  }
  return incidents;
}
