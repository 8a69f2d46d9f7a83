import { delay } from '../../base/abort.ts';
import { AppError, messageOf } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import {
  type DatabaseChange,
  prepareControlSession,
  readNewSession,
  readReloadTime,
  reloadConfiguration,
  type SubscriptionChange,
  setDatabases,
  setTo,
} from '../../engines/postgres/write-controls.ts';
import { type SessionFacts, terminateSessions } from '../../engines/postgres/write-sessions.ts';
import { putStopRecord } from '../../repository/emergency-archive.ts';
import { isFull } from './control-session.ts';
import { switchMaintenanceOn } from './maintenance-page.ts';
import { within } from './open-stops.ts';
import { AUTOVACUUM, READ_ONLY } from './plan-stop.ts';
import { writeRecord } from './stop-journal.ts';
import type { StopRun } from './stop-run.ts';
import { runEmergencyStep } from './stop-run.ts';

/** Damage goes on while the repository is waited for: longer than this it is not. */
export const REPOSITORY_LIMIT_MS = 1000;
/** How long a server may take to read its configuration again. */
const RELOAD_LIMIT_MS = 3000;
/** How long a session may take to end. */
const TERMINATE_LIMIT_MS = 10_000;
const TERMINATE_POLL_MS = 5;

/** Writes down what will be changed, here and in the repository, before anything is. */
export async function recordStop(run: StopRun): Promise<void> {
  const { context, record } = run;
  const step = { id: 'record', title: 'What will be changed is on record', detail: () => record.id };
  await runEmergencyStep(run, step, async () => {
    const [stored, written] = await Promise.allSettled([
      storeRecord(run),
      writeRecord(context.settings.stateDirectory, record),
    ]);
    if (stored.status === 'fulfilled' && stored.value === 'exists') throw stoppedElsewhere();
    // One of the two is enough to put everything back: a full disk is a usual disaster.
    if (stored.status === 'rejected' && written.status === 'rejected') throw written.reason;
    if (stored.status === 'rejected')
      run.problems.push(
        `the record is on this machine alone, the repository does not take it: ${messageOf(stored.reason)}`,
      );
    if (written.status === 'rejected')
      run.problems.push(`the record is in the repository alone: ${messageOf(written.reason)}`);
  });
}

async function storeRecord({ context, record }: StopRun): Promise<'created' | 'exists'> {
  const { instance, id: stop, sequence } = record;
  return await within(REPOSITORY_LIMIT_MS, async () => {
    const { repository } = await context.open();
    return await putStopRecord(repository, { instance, stop, sequence }, record);
  });
}

function stoppedElsewhere(): AppError {
  return new AppError('LOCKED', 'unable to go on: another machine is stopping the writes of this instance', {
    hint: 'Wait until it is done, then see `aishell emergency status`.',
  });
}

/** A page that cannot be switched keeps nobody from stopping writes. */
export async function showMaintenance(run: StopRun): Promise<void> {
  const path = run.record.changes.find(change => change.kind === 'maintenance-file')?.path;
  if (path === undefined) return;
  await runEmergencyStep(
    run,
    { id: 'maintenance-page', title: 'Maintenance page switched on', detail: text => text },
    async () => {
      try {
        const done = await switchMaintenanceOn(path, run.record);
        return done === 'made' ? undefined : 'it was on already';
      } catch (error) {
        run.problems.push(`the maintenance page was not switched on: ${messageOf(error)}`);
        return 'failed';
      }
    },
  );
}

/** Makes read-only what every transaction begins as, and returns when every session has been told. */
export async function makeReadOnly(run: StopRun): Promise<void> {
  const step = { id: 'read-only', title: 'Database set to read-only mode' };
  await runEmergencyStep(run, step, async () => {
    const { client } = run.control;
    for (const change of run.record.changes) {
      // That of a role is a row of a catalog, which is written.
      if (change.kind === 'role-setting') await run.watch.ignore(() => setTo(client, change, 'during'));
      if (change.kind === 'setting' && change.name === READ_ONLY) await setTo(client, change, 'during');
    }
    const before = await readReloadTime(client);
    await reloadConfiguration(client);
    await waitUntilReadOnly(run, before);
  });
}

/**
 * The server's main process takes up its configuration, then tells all sessions, and only then lets in the next: when a
 * new session is read-only, all others have been told and will look before their next command.
 * @source PostgreSQL, src/backend/postmaster/postmaster.c, process_pm_reload_request; tcop/postgres.c, PostgresMain
 */
async function waitUntilReadOnly(run: StopRun, loadedBefore: string): Promise<void> {
  const deadline = performance.now() + RELOAD_LIMIT_MS;
  while (true) {
    if (await isTakenUp(run, loadedBefore)) return;
    if (performance.now() > deadline) {
      run.problems.push(
        `new sessions of '${run.control.facts.user}' may still write: the setting did not take effect`,
      );
      return;
    }
    await delay(TERMINATE_POLL_MS);
  }
}

/** By a new session; where there is no room for one, by when this one was told. */
async function isTakenUp({ control }: StopRun, loadedBefore: string): Promise<boolean> {
  try {
    const client = await control.open('look');
    return (await readNewSession(client).finally(() => client.end().catch(() => undefined))).readOnly;
  } catch (error) {
    if (!isFull(error)) throw error;
    return (await readReloadTime(control.client)) !== loadedBefore;
  }
}

/** Closes the databases: first that of this program is tried with its new limit, so that nobody is locked out. */
export async function closeDatabases(run: StopRun): Promise<void> {
  const databases = run.record.changes.filter(change => change.kind === 'database');
  if (databases.length === 0) return;
  const isOwn = (change: DatabaseChange): boolean => change.name === run.record.controlDatabase;
  const closed = databases.filter(change => !isOwn(change));
  const step = {
    id: 'close-databases',
    title: 'Application traffic blocked',
    detail: () => `${formatCount(closed.length)} databases take no connections`,
  };
  await runEmergencyStep(run, step, async () => {
    const { client } = run.control;
    await run.watch.ignore(() => setDatabases(client, databases.filter(isOwn), 'during'));
    try {
      await (await run.control.open('look')).end();
    } catch (error) {
      // The limit is none for a superuser, whom alone this level is for: it is the server that is full.
      if (!isFull(error)) {
        await setDatabases(client, databases.filter(isOwn), 'before');
        throw error;
      }
    }
    await run.watch.ignore(() => setDatabases(client, closed, 'during'));
  });
}

/** Autovacuum would remove rows that were just deleted, and that can still be found. */
export async function stopAutovacuum(run: StopRun): Promise<void> {
  const change = run.record.changes.find(each => each.kind === 'setting' && each.name === AUTOVACUUM);
  if (change?.kind !== 'setting') return;
  await runEmergencyStep(
    run,
    { id: 'autovacuum', title: 'Autovacuum stopped: deleted rows stay where they are' },
    async () => {
      await setTo(run.control.client, change, 'during');
      await reloadConfiguration(run.control.client);
    },
  );
}

/** Subscriptions write whatever a session may do. They can be disabled only from inside their databases. */
export async function disableSubscriptions(run: StopRun): Promise<void> {
  const subscriptions = run.record.changes.filter(change => change.kind === 'subscription');
  if (subscriptions.length === 0) return;
  const step = {
    id: 'subscriptions',
    title: 'Subscriptions disabled',
    detail: () => subscriptions.map(({ name }) => name).join(', '),
  };
  await runEmergencyStep(run, step, async () => {
    for (const change of subscriptions) {
      try {
        await run.watch.ignore(() => setSubscription(run.control, change, 'during'));
      } catch (error) {
        run.problems.push(`the subscription '${change.name}' goes on writing: ${messageOf(error)}`);
      }
    }
  });
}

export async function setSubscription(
  control: StopRun['control'],
  change: SubscriptionChange,
  which: 'before' | 'during',
): Promise<void> {
  const client = await control.open('subscription', change.database);
  try {
    await prepareControlSession(client);
    await setTo(client, change, which);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Ends the sessions that could still write, until two looks in a row find none: one that was just being let in is seen by
 * the second.
 */
export async function endWriters(run: StopRun): Promise<EndedSessions> {
  const everybody = run.record.level === 'hard' || run.plan.endsAllSessions;
  const ended = new Map<number, SessionFacts>();
  let readOnlySince = '';
  const step = {
    id: 'terminate',
    title: 'Sessions that could write were ended',
    detail: () => describeEnded(ended),
  };
  await runEmergencyStep(run, step, async () => {
    const { client, facts } = run.control;
    const { time, iso } = await readNewSession(client);
    readOnlySince = iso;
    const scope = {
      which: everybody ? ('databases' as const) : ('transactions' as const),
      before: time,
      endable: facts.superuser,
    };
    const deadline = performance.now() + TERMINATE_LIMIT_MS;
    for (let quiet = 0; quiet < 2; ) {
      const asked = await terminateSessions(client, scope);
      for (const session of asked)
        ended.set(session.pid, {
          ...session,
          wrote: session.wrote || ended.get(session.pid)?.wrote === true,
        });
      quiet = asked.length === 0 ? quiet + 1 : 0;
      // Ending everybody brings them back, where they can still connect: they are read-only then, and not ended again.
      if (everybody && run.record.level !== 'hard') scope.which = 'transactions';
      if (performance.now() > deadline) {
        run.problems.push(
          `${formatCount(asked.length)} sessions did not end: processes ${asked.map(({ pid }) => pid).join(', ')}`,
        );
        break;
      }
      await delay(TERMINATE_POLL_MS);
    }
  });
  const sessions = [...ended.values()];
  return {
    sessions,
    overriding: sessions.filter(each => each.wrote && (each.transactionStart ?? '') > readOnlySince),
  };
}

export interface EndedSessions {
  readonly sessions: readonly SessionFacts[];
  /** Those that had begun to write when new transactions were read-only: they say so themselves, and will again. */
  readonly overriding: readonly SessionFacts[];
}

function describeEnded(ended: ReadonlyMap<number, SessionFacts>): string {
  const wrote = [...ended.values()].filter(session => session.wrote).length;
  return `${formatCount(ended.size)} ended, ${formatCount(wrote)} of them had written`;
}
