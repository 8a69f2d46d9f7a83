import { messageOf } from '../../base/errors.ts';
import { type ChangeState, readNewSession, stateOf } from '../../engines/postgres/write-controls.ts';
import { readDatabaseEntries } from '../../engines/postgres/write-facts.ts';
import { type PreparedTransaction, readPrepared } from '../../engines/postgres/write-sessions.ts';
import type { ControlSession } from './control-session.ts';
import { openControl } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { type MaintenanceState, maintenanceState } from './maintenance-page.ts';
import { type OpenStops, readOpenStops } from './open-stops.ts';
import { describeChange } from './put-back.ts';
import type { StepMark } from './stop-journal.ts';
import type { Change, StopRecord } from './stop-record.ts';

/** How the server is now, whatever is on record. */
export interface ServerState {
  readonly version: string;
  readonly inRecovery: boolean;
  /** What a new session begins as. */
  readonly readOnly: boolean;
  readonly closedDatabases: readonly string[];
  /** None are shown while it is in recovery. */
  readonly prepared: readonly PreparedTransaction[];
}

export interface EmergencyStatus {
  readonly instance: string;
  /** A stop is on record that was not put back. */
  readonly stopped: boolean;
  /** All that it changed is still so; null when that cannot be seen. */
  readonly inEffect: boolean | null;
  readonly stop: StopRecord | null;
  /** Stops from before that one, not put back either. */
  readonly olderStops: number;
  readonly steps: readonly StepMark[];
  /** Null: it does not answer. */
  readonly server: ServerState | null;
  readonly maintenance: MaintenanceState | null;
  /** What needs attention: exit code 3. */
  readonly problems: readonly string[];
}

/** Compares what is on record with how things are. Changes nothing. @throws CORRUPT UNSUPPORTED FILE_FAILED */
export async function emergencyStatus(
  context: EmergencyContext,
  options: { readonly signal: AbortSignal },
): Promise<EmergencyStatus> {
  const open = await readOpenStops(context, options);
  const problems: string[] = [];
  if (open.repositoryProblem !== null)
    problems.push(`the repository is out of reach: ${open.repositoryProblem}`);
  const stop = open.records[0] ?? null;
  const seen = await look(context, { stop, problems, signal: options.signal });
  const file = stop?.changes.find(change => change.kind === 'maintenance-file') ?? null;
  return {
    instance: context.instance,
    stopped: stop !== null,
    inEffect: stop === null || seen === null ? null : seen.deviations.length === 0,
    stop,
    olderStops: Math.max(0, open.records.length - 1),
    steps: stepsOf(open, stop),
    server: seen?.server ?? null,
    maintenance: stop === null || file === null ? null : await maintenanceState(file.path, stop),
    problems: [...problems, ...(seen?.deviations ?? [])],
  };
}

function stepsOf(open: OpenStops, stop: StopRecord | null): readonly StepMark[] {
  return stop === null ? [] : open.steps;
}

async function look(
  context: EmergencyContext,
  of: { readonly stop: StopRecord | null; readonly problems: string[]; readonly signal: AbortSignal },
): Promise<{ readonly server: ServerState; readonly deviations: readonly string[] } | null> {
  const { stop } = of;
  try {
    await using control = await openControl(context, {
      known: stop?.controlDatabase ?? null,
      signal: of.signal,
    });
    if (stop !== null && stop.systemIdentifier !== control.facts.systemIdentifier) {
      of.problems.push(
        `the record is of system ${stop.systemIdentifier}, and this server is ${control.facts.systemIdentifier}`,
      );
      return null;
    }
    const server = await readState(control);
    return { server, deviations: stop === null ? unrecorded(server) : await deviationsOf(control, stop) };
  } catch (error) {
    of.signal.throwIfAborted();
    of.problems.push(`the server does not answer: ${messageOf(error)}`);
    return null;
  }
}

async function readState(control: ControlSession): Promise<ServerState> {
  const { client, facts, open } = control;
  const session = await open('look');
  const { readOnly } = await readNewSession(session).finally(() => session.end().catch(() => undefined));
  const databases = await readDatabaseEntries(client);
  return {
    version: facts.version,
    inRecovery: facts.inRecovery,
    readOnly,
    // Nobody ever connects to template0.
    closedDatabases: databases
      .filter(({ name, allowConnections }) => !allowConnections && name !== 'template0')
      .map(({ name }) => name),
    prepared: await readPrepared(client),
  };
}

function unrecorded(server: ServerState): string[] {
  return server.readOnly && !server.inRecovery
    ? ['new sessions are read-only, and no stop of aishell is on record: somebody else has set it so']
    : [];
}

async function deviationsOf(control: ControlSession, stop: StopRecord): Promise<string[]> {
  const found: string[] = [];
  for (const change of stop.changes) {
    const text = deviation(change, await presentState(control, change));
    if (text !== null) found.push(text);
  }
  return found;
}

async function presentState(control: ControlSession, change: Change): Promise<ChangeState> {
  if (change.kind === 'maintenance-file') return 'during';
  if (change.kind === 'standby-signal') return control.facts.inRecovery ? 'during' : 'before';
  // Where it was so before, nothing was changed, and nothing can deviate.
  if ('before' in change && JSON.stringify(change.before) === JSON.stringify(change.during)) return 'during';
  return await stateOf(control.client, change);
}

function deviation(change: Change, state: ChangeState): string | null {
  if (state === 'during' || state === 'gone') return null;
  return state === 'before'
    ? `${describeChange(change)} is as it was before the stop`
    : `${describeChange(change)} was changed by somebody meanwhile`;
}
