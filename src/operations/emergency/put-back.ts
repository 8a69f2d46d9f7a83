import { delay } from '../../base/abort.ts';
import { messageOf } from '../../base/errors.ts';
import {
  type ChangeState,
  type DatabaseChange,
  readNewSession,
  reloadConfiguration,
  type ServerChange,
  setDatabases,
  setTo,
  stateOf,
} from '../../engines/postgres/write-controls.ts';
import type { ControlSession } from './control-session.ts';
import { READ_ONLY } from './plan-stop.ts';
import { type Change, changeKey, type StopRecord } from './stop-record.ts';
import type { EmergencyRun } from './stop-run.ts';
import { setSubscription } from './stop-steps.ts';

/** What became of one change. */
export interface PutBack {
  readonly change: Change;
  /**
   * `restored`: it has the value from before again. `unchanged`: it had it all the time, or again. `left`: somebody gave it
   * yet another value meanwhile, which stays. `gone`: what it belongs to does not exist any more. `failed`: see `why`.
   */
  readonly outcome: 'restored' | 'unchanged' | 'left' | 'gone' | 'failed';
  readonly why?: string;
}

/** A run that puts a stop back. */
export interface ResumeRun extends EmergencyRun {
  /** By {@link changeKey}. */
  readonly outcomes: Map<string, PutBack>;
}

/** Notes what became of a change. What was restored once is found unchanged when it is looked at again. */
export function noteOutcome(run: ResumeRun, done: PutBack): void {
  const key = changeKey(done.change);
  if (done.outcome === 'unchanged' && run.outcomes.get(key)?.outcome === 'restored') return;
  run.outcomes.set(key, done);
}

/**
 * Gives everything in the server, or its settings alone, the value that its record has from before. What is not as the
 * stop left it, and not as it was before either, was changed by somebody since: that is not undone.
 */
export async function putBackServer(
  run: ResumeRun,
  control: ControlSession,
  only: 'settings' | 'all' = 'all',
): Promise<void> {
  const changes = run.record.changes.filter(isOfServer);
  // Together, in one transaction, and first: the others may need them open.
  if (only === 'all')
    await putBackDatabases(
      run,
      control,
      changes.filter(change => change.kind === 'database'),
    );
  for (const change of changes) {
    if (change.kind === 'database' || (only === 'settings' && change.kind !== 'setting')) continue;
    noteOutcome(run, await putBackOne(control, change));
  }
}

function isOfServer(change: Change): change is ServerChange {
  return change.kind !== 'standby-signal' && change.kind !== 'maintenance-file';
}

async function putBackDatabases(
  run: ResumeRun,
  control: ControlSession,
  changes: readonly DatabaseChange[],
): Promise<void> {
  const states = new Map<DatabaseChange, ChangeState>();
  for (const change of changes) states.set(change, await stateOf(control.client, change));
  await setDatabases(
    control.client,
    changes.filter(change => states.get(change) === 'during'),
    'before',
  );
  for (const [change, state] of states) noteOutcome(run, { change, outcome: outcomes[state] });
}

async function putBackOne(
  control: ControlSession,
  change: Exclude<ServerChange, DatabaseChange>,
): Promise<PutBack> {
  try {
    const state = await stateOf(control.client, change);
    if (state === 'during') {
      if (change.kind === 'subscription') await setSubscription(control, change, 'before');
      else await setTo(control.client, change, 'before');
    }
    return { change, outcome: outcomes[state] };
  } catch (error) {
    return { change, outcome: 'failed', why: messageOf(error) };
  }
}

const outcomes = { before: 'unchanged', during: 'restored', other: 'left', gone: 'gone' } as const;

/** What became of a change, when somebody should know. */
export function outcomeProblem({ change, outcome, why }: PutBack): string | null {
  if (outcome === 'left')
    return `${describeChange(change)} was changed by somebody meanwhile, and stays as it is`;
  return outcome === 'failed' ? `${describeChange(change)} could not be put back: ${why}` : null;
}

/** For people: what a change is about. */
export function describeChange(change: Change): string {
  switch (change.kind) {
    case 'setting':
      return `the setting ${change.name}`;
    case 'role-setting':
      return `the setting ${change.name} of ${change.role === null ? (change.database === null ? 'all roles' : `database ${change.database}`) : `role ${change.role}`}`;
    case 'database':
      return `the access to database ${change.name}`;
    case 'subscription':
      return `the subscription ${change.name}`;
    case 'standby-signal':
      return 'recovery mode';
    case 'maintenance-file':
      return `the maintenance page ${change.path}`;
  }
}

/** Whether transactions were read-only by default before the stop. */
export function wasReadOnly(record: StopRecord): boolean {
  return record.changes.some(
    change =>
      (change.kind === 'setting' || change.kind === 'role-setting') &&
      change.name === READ_ONLY &&
      /^(on|true|yes|1)$/i.test(change.before ?? ''),
  );
}

const RELOAD_LIMIT_MS = 3000;

/** Makes the server read its configuration, and waits until a new session may write, if it might before. */
export async function waitUntilAsBefore(run: EmergencyRun, control: ControlSession): Promise<void> {
  await reloadConfiguration(control.client);
  const deadline = performance.now() + RELOAD_LIMIT_MS;
  while (!wasReadOnly(run.record) && performance.now() < deadline) {
    const client = await control.open('look');
    const seen = await readNewSession(client).finally(() => client.end().catch(() => undefined));
    if (!seen.readOnly) return;
    await delay(10);
  }
}
