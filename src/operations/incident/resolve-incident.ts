import { delay } from '../../base/abort.ts';
import { connect, type Session } from '../../engines/postgres/connection.ts';
import { endHolder } from '../../engines/postgres/snapshot-holders.ts';
import { isSnapshotHeld } from '../../engines/postgres/transaction-owner.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { heldFor } from './held-for.ts';
import type { Incident } from './incident.ts';
import { readIncident, updateIncident } from './incident-store.ts';
import { putTablesBack } from './put-tables-back.ts';

export interface ResolveRequest {
  /** Its id, the end of it, or `latest`. */
  readonly id: string;
  readonly reason: string | null;
  readonly dryRun: boolean;
}

export interface ResolveReport {
  readonly dryRun: boolean;
  readonly incident: Incident;
  /** It was resolved before. */
  readonly already: boolean;
  /** What was let go: a snapshot, the autovacuum of tables. */
  readonly released: readonly string[];
  readonly problems: readonly string[];
}

export interface ResolveContext extends Pick<InstanceContext, 'instance' | 'repository' | 'connection'> {
  /** Tells the agent, which holds the snapshot. False: none is there, or it holds nothing for this incident. */
  readonly tellAgent: (incident: string) => Promise<boolean>;
}

/**
 * Says that an incident is over, and lets go of all that is held on the server for it: by the agent, or, where none runs,
 * here.
 *
 * @throws INCIDENT_NOT_FOUND CORRUPT STORAGE_UNREACHABLE
 */
export async function resolveIncident(
  context: ResolveContext,
  request: ResolveRequest,
  { signal }: RunOptions,
): Promise<ResolveReport> {
  const found = await readIncident(context, request.id, { signal });
  const { id } = found;
  const held = heldFor(found);
  const already = found.status === 'resolved';
  if (request.dryRun || (already && held.length === 0))
    return {
      dryRun: request.dryRun,
      incident: found,
      already,
      released: request.dryRun ? held : [],
      problems: [],
    };
  if (!already)
    await updateIncident(context, id, incident => asResolved(incident, request.reason), { signal });
  if (held.length === 0)
    return { ...none(request), incident: await readIncident(context, id, { signal }), already };
  const isDone = await context.tellAgent(id);
  const tried = isDone ? [] : await letGo(context, found, signal);
  const incident = await readIncident(context, id, { signal });
  const left = heldFor(incident);
  const problems = isDone
    ? left.map(each => `the agent could not let go of it yet, and tries again: ${each}`)
    : tried;
  return { dryRun: false, incident, already, released: held.filter(each => !left.includes(each)), problems };
}

function none(request: ResolveRequest): Pick<ResolveReport, 'dryRun' | 'released' | 'problems'> {
  return { dryRun: request.dryRun, released: [], problems: [] };
}

function asResolved(incident: Incident, reason: string | null): Incident {
  const resolution = reason ?? 'resolved';
  const at = new Date().toISOString();
  return {
    ...incident,
    ...{ status: 'resolved', resolution },
    events: [
      ...incident.events,
      { at, event: 'resolved', text: reason === null ? 'resolved' : `resolved: ${reason}` },
    ],
  };
}

/** Without an agent its snapshot is gone with it; one on another machine lets go as soon as it looks. */
async function letGo(
  context: ResolveContext,
  found: Incident,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const open = (database: string): Promise<Session> => connect(context.connection, { database, signal });
  const left = await putTablesBack(open, found.guard.autovacuumBefore ?? []);
  const problems = left.map(({ problem }) => problem);
  const { snapshot } = found.guard;
  if (snapshot?.releasedAt === null) await endHeld(open, found.id, snapshot.database);
  const isGone = snapshot !== null && (await isReleased(open, snapshot.database, snapshot.name));
  if (snapshot !== null && snapshot.releasedAt === null && !isGone)
    problems.push(
      'the snapshot is still held: the agent that holds it lets it go within seconds, once it reads this from the repository',
    );
  const stuck = left.map(({ record }) => record);
  await updateIncident(
    context,
    found.id,
    incident => ({
      ...incident,
      guard: {
        ...incident.guard,
        autovacuumOff: stuck.map(({ table }) => table),
        autovacuumBefore: stuck,
        snapshot:
          incident.guard.snapshot === null || !isGone
            ? incident.guard.snapshot
            : {
                ...incident.guard.snapshot,
                releasedAt: incident.guard.snapshot.releasedAt ?? new Date().toISOString(),
              },
      },
    }),
    { signal },
  );
  return problems;
}

const END_MS = 2000;
const LOOK_MS = 50;

/** Ends the session of the process that holds it, and waits for a moment until it is gone. */
async function endHeld(
  open: (database: string) => Promise<Session>,
  incident: string,
  database: string,
): Promise<void> {
  // Where nobody answers, it ends by itself when its time is over; whether it is gone is looked at next.
  await asking(open, database, async client => {
    const giveUpMs = performance.now() + END_MS;
    while ((await endHolder(client, incident)) && performance.now() < giveUpMs) await delay(LOOK_MS);
  });
}

async function isReleased(
  open: (database: string) => Promise<Session>,
  database: string,
  name: string,
): Promise<boolean> {
  const isHeld = await asking(open, database, client => isSnapshotHeld(client, name));
  // Nobody can say while the server does not answer.
  return isHeld === false;
}

/** What a session answers; null where the server does not. */
async function asking<T>(
  open: (database: string) => Promise<Session>,
  database: string,
  ask: (client: Session) => Promise<T>,
): Promise<T | null> {
  let client: Session | null = null;
  try {
    client = await open(database);
    return await ask(client);
  } catch {
    return null;
  } finally {
    await client?.end().catch(() => undefined);
  }
}
