import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { newIncidentId } from '../../src/operations/incident/incident.ts';
import { readIncident, saveIncident } from '../../src/operations/incident/incident-store.ts';
import type { UndoReport } from '../../src/operations/undo/undo-report.ts';
import { openRepositoryOf } from './agent.ts';
import { resultOf, type TestInstance } from './instance.ts';
import type { TestCluster } from './postgres.ts';

/** A snapshot as the agent keeps one while a transaction destroys rows. */
export interface HeldForTest extends AsyncDisposable {
  readonly name: string;
  readonly database: string;
}

export async function holdSnapshot(cluster: TestCluster, database: string): Promise<HeldForTest> {
  const client = await cluster.connect(database);
  await client.query('begin isolation level repeatable read read only');
  const { rows } = await client.query<{ name: string }>('select pg_export_snapshot() as name');
  return {
    name: rows[0]!.name,
    database,
    [Symbol.asyncDispose]: async () => await client.end(),
  };
}

/** Runs statements in one transaction and gives its number. */
export async function commit(client: pg.Client, ...statements: readonly string[]): Promise<number> {
  await client.query('begin');
  try {
    for (const statement of statements) await client.query(statement);
    const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
    await client.query('commit');
    return Number(rows[0]!.xid);
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

/** Stores an incident as the agent leaves one when the transaction has committed; returns its id. */
export async function storeIncident(
  instance: TestInstance,
  facts: { readonly xid: number; readonly snapshot: HeldForTest | null; readonly endLsn?: string },
): Promise<string> {
  const [row] = await instance.cluster.query<{ system: string }>(
    'select system_identifier::text as system from pg_control_system()',
  );
  const at = new Date().toISOString();
  const { snapshot } = facts;
  const incident: Incident = {
    format: 1,
    id: newIncidentId(new Date(), randomBytes(3)),
    sequence: 1,
    instance: instance.name,
    systemIdentifier: row!.system,
    toolVersion: 'test',
    severity: 'critical',
    status: 'open',
    resolution: null,
    detectedAt: at,
    updatedAt: at,
    rule: { name: 'mass delete', explanation: 'of a test', confidence: 'certain' },
    transaction: {
      xid: facts.xid,
      timeline: 1,
      beginLsn: null,
      endLsn: facts.endLsn ?? null,
      outcome: 'committed',
      endedAt: at,
    },
    tables: [],
    culprit: null,
    guard: {
      policy: 'hold',
      snapshot:
        snapshot === null
          ? null
          : {
              name: snapshot.name,
              database: snapshot.database,
              heldSince: at,
              heldUntil: new Date(Date.now() + 3_600_000).toISOString(),
              releasedAt: null,
            },
      autovacuumOff: [],
      cancelled: false,
    },
    events: [],
  };
  await saveIncident(await ownerOf(instance), incident);
  return incident.id;
}

export async function incidentOf(instance: TestInstance, id: string): Promise<Incident> {
  return await readIncident(await ownerOf(instance), id);
}

async function ownerOf(
  instance: TestInstance,
): Promise<{ instance: string; repository: Awaited<ReturnType<typeof openRepositoryOf>> }> {
  return { instance: instance.name, repository: await openRepositoryOf(instance) };
}

/** `backup undo … --yes`; fails unless its exit code is one of these. */
export async function undo(
  instance: TestInstance,
  args: readonly string[],
  exitCodes: readonly number[] = [0],
): Promise<UndoReport> {
  const done = await instance.run(['backup', 'undo', ...args, '--yes']);
  const last = done.json.at(-1);
  if (exitCodes.includes(done.exitCode ?? -1) && last?.type === 'result') return last['result'] as UndoReport;
  return resultOf<UndoReport>({ ...done, exitCode: done.exitCode === 0 ? 1 : done.exitCode });
}

/** All rows of a table as text, in the order of their text. */
export async function rowsOf(client: pg.Client, table: string): Promise<string[]> {
  const { rows } = await client.query<{ row: string }>(`select t::text as row from ${table} t`);
  return rows.map(({ row }) => row).sort();
}
