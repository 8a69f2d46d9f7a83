import { AppError, messageOf } from '../../base/errors.ts';
import { getStopRecord, listOpenStops, wasResumed } from '../../repository/emergency-archive.ts';
import type { Repository } from '../../repository/repository.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { readJournal, removeJournal, type StepMark } from './stop-journal.ts';
import { parseStopRecord, type StopRecord } from './stop-record.ts';

/** The stops of an instance that were not put back. */
export interface OpenStops {
  /** The newest first: what a later one found was changed by the earlier one. Hardly ever more than one. */
  readonly records: readonly StopRecord[];
  /** Of the stop that this machine has a journal of. */
  readonly steps: readonly StepMark[];
  /** Why the repository could not be asked; null when it was. */
  readonly repositoryProblem: string | null;
}

/**
 * Reads what is known on this machine and in the repository. Either is enough: a stop made elsewhere is found in the
 * repository, and one made while that was out of reach is found here. With `limitMs` the repository is not waited for
 * any longer.
 *
 * @throws CORRUPT UNSUPPORTED FILE_FAILED
 */
export async function readOpenStops(
  context: EmergencyContext,
  options: { readonly signal: AbortSignal; readonly limitMs?: number },
): Promise<OpenStops> {
  const { instance, settings } = context;
  const journal = await readJournal(settings.stateDirectory, instance);
  let stored: { readonly records: readonly StopRecord[]; readonly journalIsOver: boolean };
  try {
    stored = await within(options.limitMs, async () => {
      const { repository } = await context.open();
      const owner = { instance, stop: journal?.record.id ?? '' };
      return {
        records: await readStored(repository, instance, options.signal),
        journalIsOver: journal !== null && (await wasResumed(repository, owner, options)),
      };
    });
  } catch (error) {
    options.signal.throwIfAborted();
    const records = journal === null ? [] : [journal.record];
    return { records, steps: journal?.steps ?? [], repositoryProblem: messageOf(error) };
  }
  if (stored.journalIsOver) await removeJournal(settings.stateDirectory, instance);
  const own = journal === null || stored.journalIsOver ? null : journal;
  return {
    records: newestFirst([...stored.records, ...(own === null ? [] : [own.record])]),
    steps: own?.steps ?? [],
    repositoryProblem: null,
  };
}

async function readStored(
  repository: Repository,
  instance: string,
  signal: AbortSignal,
): Promise<StopRecord[]> {
  const records: StopRecord[] = [];
  for (const { stop, sequence } of await listOpenStops(repository, instance, { signal })) {
    const value = await getStopRecord(repository, { instance, stop, sequence }, { signal });
    records.push(parseStopRecord(value, `the repository (${stop})`));
  }
  return records;
}

/** One record for each stop, the one that knows most. */
function newestFirst(records: readonly StopRecord[]): StopRecord[] {
  const best = new Map<string, StopRecord>();
  for (const record of records) {
    const known = best.get(record.id);
    if (known === undefined || known.sequence < record.sequence) best.set(record.id, record);
  }
  return [...best.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
}

/** What the work gives, unless that takes too long. The work itself goes on. */
export async function within<T>(limitMs: number | undefined, work: () => Promise<T>): Promise<T> {
  const running = work();
  if (limitMs === undefined) return await running;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new AppError('TIMEOUT', `it does not answer within ${limitMs / 1000} seconds`)),
    limitMs,
  );
  try {
    return await Promise.race([running, late.promise]);
  } finally {
    clearTimeout(timer);
    // Nobody may be waiting for it any more.
    running.catch(() => undefined);
  }
}
