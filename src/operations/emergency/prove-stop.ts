import { delay } from '../../base/abort.ts';
import { formatCount } from '../../base/sizes.ts';
import { type SessionFacts, watchWriters } from '../../engines/postgres/write-sessions.ts';
import { readMark } from '../../engines/postgres/write-watch.ts';
import type { StopProof } from './stop-report.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';

const WATCH_MS = 250;
const LOOKS = 8;

/** Watches for a while whether anybody writes, and says so plainly when somebody does. */
export async function proveStop(run: StopRun, overriding: readonly SessionFacts[]): Promise<StopProof> {
  const step = { id: 'verify', title: 'Watched whether anybody still writes', detail: describeProof };
  const proof = await runEmergencyStep(run, step, async () => await watch(run, overriding));
  if (run.record.level === 'strict' && !proof.inRecovery)
    run.problems.push('the server is not in recovery mode: somebody may have promoted it');
  if (proof.transactions > 0) run.problems.push(describeLeak(run, proof));
  return proof;
}

async function watch(run: StopRun, overriding: readonly SessionFacts[]): Promise<StopProof> {
  const { client, facts } = run.control;
  const startedAt = performance.now();
  const first = await readMark(client);
  const seen: SessionFacts[] = [];
  let last = first;
  // When somebody wrote and was too quick to be seen, it is worth another look.
  for (
    let look = 0;
    look < LOOKS && (look === 0 || (last.nextXid > first.nextXid && seen.length === 0));
    look += 1
  ) {
    seen.push(...(facts.inRecovery ? await nobody() : await watchWriters(client, WATCH_MS)));
    last = await readMark(client);
    if (last.nextXid > first.nextXid) seen.push(...overriding);
  }
  return {
    watchedMs: Math.round(performance.now() - startedAt),
    transactions: Number(last.nextXid - first.nextXid),
    sessions: seen,
    inRecovery: facts.inRecovery,
    lsn: last.lsn,
  };
}

/** In recovery mode nobody can write: only the log's end is watched. */
async function nobody(): Promise<SessionFacts[]> {
  await delay(WATCH_MS);
  return [];
}

function describeProof({ watchedMs, transactions, inRecovery }: StopProof): string {
  const mode = inRecovery ? 'recovery mode, ' : '';
  return transactions === 0
    ? `${mode}no transaction wrote in ${watchedMs} ms`
    : `${mode}${formatCount(transactions)} transactions wrote in ${watchedMs} ms`;
}

function describeLeak(run: StopRun, proof: StopProof): string {
  const who = [...new Set(proof.sessions.map(describeWriter))];
  const names = who.length === 0 ? 'a session that was too quick to be seen' : who.join('; ');
  const next = run.record.level === 'soft' ? 'hard or strict' : 'strict';
  return `${formatCount(proof.transactions)} transactions wrote within ${proof.watchedMs} ms after writes were stopped, by ${names}: a session that overrides its settings is only stopped by --level ${next}`;
}

function describeWriter({ user, application, client, database, kind }: SessionFacts): string {
  const from = client === null ? '' : ` from ${client}`;
  const as = application === '' ? '' : ` (${application})`;
  return `${user ?? kind}${as}${from} in ${database ?? 'no database'}`;
}
