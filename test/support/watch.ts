import { appendFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { readIncidents } from '../../src/operations/incident/incident-store.ts';
import { openRepositoryOf, protectWithAgent } from './agent.ts';
import type { TestInstance } from './instance.ts';
import type { TestCluster } from './postgres.ts';

/** Protects a server whose agent watches it, with limits that a test reaches. */
export async function protectWatched(
  cluster: TestCluster,
  watch: Readonly<Record<string, unknown>> = {},
): Promise<TestInstance> {
  const instance = await protectWithAgent(cluster);
  await appendFile(instance.configFile, `watch: ${JSON.stringify({ rows: 5000, ...watch })}\n`);
  return instance;
}

/** The incidents in the repository, oldest first. */
export async function incidentsOf(instance: TestInstance): Promise<Incident[]> {
  const repository = await openRepositoryOf(instance);
  return await readIncidents({ instance: instance.name, repository });
}

/** Waits until the repository has an incident that is as wanted. */
export async function untilIncident(
  instance: TestInstance,
  isWanted: (incident: Incident) => boolean,
  timeoutMs = 60_000,
): Promise<Incident> {
  const giveUpMs = performance.now() + timeoutMs;
  for (;;) {
    const incidents = await incidentsOf(instance);
    const found = incidents.find(isWanted);
    if (found !== undefined) return found;
    if (performance.now() > giveUpMs)
      throw new Error(`no such incident; there are ${JSON.stringify(incidents, null, 1)}`);
    await sleep(50);
  }
}
