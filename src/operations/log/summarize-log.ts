import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { takeProcessLock } from '../../base/process-lock.ts';
import { classifyLogFileName } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { getLogFile, type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
import { listLogSummaries } from '../../repository/log-summary.ts';
import type { InstanceContext } from '../instance-context.ts';
import { storeSummary } from './store-segment.ts';

type Context = Pick<InstanceContext, 'instance' | 'repository'>;

/** Nothing is begun before, so that a server with a queue has the processors for itself. */
const PATIENCE_MS = 2000;
const LOWEST_PRIORITY = 19;
/** A run ends after this many; whoever archives the next segment starts another one. */
const MOST = 2000;

/**
 * Makes the summaries that are missing, as long as there are any, at the lowest priority. `lock`: nothing is done while
 * another process holds it.
 */
export async function summarizeInBackground(
  context: Context,
  request: { readonly lock: string | null },
  signal: AbortSignal,
): Promise<{ readonly made: number }> {
  const taken = request.lock === null ? null : takeProcessLock(request.lock, 'wal-summarize');
  if (taken?.release === null) return { made: 0 };
  try {
    lowerPriority();
    if (taken !== null) await sleep(PATIENCE_MS, undefined, { signal });
    let made = 0;
    for (;;) {
      const before = made;
      for (const { systemIdentifier } of await readIdentities(context.repository, context.instance))
        made += await summarizeSystem(context, { instance: context.instance, systemIdentifier }, signal);
      if (made === before || made > MOST) return { made };
    }
  } finally {
    taken?.release();
  }
}

/** A priority is that of one thread, and those that a thread begins have its own. @source setpriority(2), notes */
function lowerPriority(): void {
  for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), LOWEST_PRIORITY);
}

/** The newest first: a recovery needs those since the last backup. */
async function summarizeSystem(
  { repository }: Context,
  owner: LogOwner,
  signal: AbortSignal,
): Promise<number> {
  const summarized = new Set<string>();
  for await (const name of listLogSummaries(repository, owner, { signal })) summarized.add(name);
  const missing: string[] = [];
  for await (const { name } of listLogFiles(repository, owner, {}, { signal }))
    if (classifyLogFileName(name)?.kind === 'segment' && !summarized.has(name)) missing.push(name);
  let made = 0;
  for (const name of missing.sort().reverse().slice(0, MOST)) {
    const bytes = await getLogFile(repository, owner, name, { signal });
    if (bytes !== null && (await storeSummary(repository, { ...owner, name, bytes }, { signal }))) made += 1;
  }
  return made;
}
