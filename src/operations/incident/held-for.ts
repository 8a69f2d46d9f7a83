import type { Incident } from './incident.ts';

/** What is kept on the server for an incident, a few words each. */
export function heldFor({ guard }: Pick<Incident, 'guard'>): string[] {
  const { snapshot, autovacuumOff } = guard;
  const held = snapshot?.releasedAt === null ? [`the snapshot ${snapshot.name}`] : [];
  return [...held, ...autovacuumOff.map(table => `autovacuum off for ${table}`)];
}
