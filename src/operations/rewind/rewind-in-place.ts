import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LiveInstance } from '../restore/live-instance.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { checkPacks } from '../restore/plan-with-log.ts';
import {
  describeRequest,
  type RestoreReport,
  type RestoreWay,
  type RewindFacts,
  reportOf,
} from '../restore/restore-report.ts';
import type { RestoreOptions } from '../restore/restore-request.ts';
import { stopLiveServer, withHint } from '../restore/stop-live-server.ts';
import { type CompletedRewind, completeRewind, goBackCommand } from './complete-rewind.ts';
import type { RewindAmount } from './decide-work.ts';
import type { RewindJournal } from './journal.ts';
import { findPlaces } from './places.ts';
import { type BegunRewind, beginRewind } from './rewind.ts';
import type { BegunLog } from './rewind-log.ts';

/** A rewind that is planned and possible. */
export interface RewindJob {
  readonly plan: RecoveryPlan;
  readonly live: LiveInstance;
  readonly service: Service;
  readonly binaries: Binaries;
  readonly stamp: string;
  readonly way: RestoreWay;
  readonly amount: RewindAmount;
  readonly begun: BegunLog | null;
  readonly verifyBeforeOpen: boolean;
  readonly dryRun: boolean;
  readonly startedAt: number;
}

/** Rewinds the live data directory itself: only what has changed since the backup is written over. */
export async function rewindInPlace(
  context: InstanceContext,
  job: RewindJob,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { plan, live, service, startedAt, way } = job;
  const places = await findPlaces(live.dataDirectory, job.stamp);
  const report = {
    ...{ context, plan, live, service: service.description, way, mode: 'in-place' as const },
    safety: safetyOf({ places, instance: context.instance }),
  };
  const planned = {
    ...{ ...report, dryRun: true, recovered: null, downtimeSeconds: null },
    rewind: { amount: job.amount, done: null },
  };
  if (job.dryRun) return reportOf({ ...planned, seconds: secondsSince(startedAt) });
  const before = reportOf({ ...planned, seconds: 0 });
  await options.confirm('instance', before);
  await checkPacks(context, plan, options);
  await options.confirm('ready', before);
  const stoppedAt = performance.now();
  let begun: BegunRewind;
  try {
    await stopLiveServer(live, service, options);
    begun = await beginRewind(
      context,
      {
        ...{ plan, live, service, binaries: job.binaries, stamp: job.stamp, begun: job.begun },
        requested: describeRequest(plan),
      },
      options,
    );
  } catch (error) {
    throw withHint(error, `The old state is untouched; start it with: ${service.startCommand}`, options);
  }
  const completed = await completeRewind(
    begun.run,
    begun.journal,
    {
      service,
      verifyBeforeOpen: job.verifyBeforeOpen,
      onOpen: () => tellOpen(options, { startedAt, stoppedAt: live.running ? stoppedAt : null }),
    },
    options,
  );
  return reportOf({
    ...report,
    safety: safetyOf(begun.journal),
    dryRun: false,
    seconds: (completed.openedAt - startedAt) / 1000,
    downtimeSeconds: live.running ? (completed.openedAt - stoppedAt) / 1000 : null,
    ...outcomeOf(completed, begun.run.work.amount),
  });
}

export function safetyOf(of: Pick<RewindJournal, 'places' | 'instance'>): {
  readonly path: string;
  readonly goBack: string;
} {
  return { path: of.places.safety, goBack: goBackCommand(of) };
}

/** A person waits for this moment; what comes after it is only looking. */
export function tellOpen(
  { onEvent }: Pick<RestoreOptions, 'onEvent'>,
  times: { readonly startedAt: number; readonly stoppedAt: number | null },
): void {
  const downtimeSeconds = times.stoppedAt === null ? null : secondsSince(times.stoppedAt);
  const facts = { seconds: secondsSince(times.startedAt), downtimeSeconds };
  onEvent({ type: 'facts', topic: 'open', facts });
}

/** What was done and found, for a report. */
export function outcomeOf(
  completed: CompletedRewind,
  planned: RewindAmount,
): Pick<Parameters<typeof reportOf>[0], 'recovered' | 'rewind' | 'problems'> {
  const { journal, done, verification, unverified } = completed;
  const { recovered } = journal;
  const amount = done.work?.amount ?? planned;
  const rewind: RewindFacts = {
    amount,
    done:
      done.rewritten === null
        ? null
        : {
            writtenBytes: done.rewritten.writtenBytes,
            copiedBytes: done.rewritten.copiedBytes,
            fetchedBytes: done.rewritten.fetchedBytes,
            keptBytes: amount.keptBytes,
            checkedPages: done.touched?.pages ?? null,
            isLogThinned: (done.work?.settled ?? null) !== null,
          },
  };
  return {
    rewind,
    recovered:
      verification === null || recovered === null
        ? null
        : {
            reached: { state: 'open', lsn: recovered.lsn, replayTime: null },
            timeline: recovered.timeline,
            newLogFiles: [],
            ...verification,
          },
    problems: unverified === null ? [] : [`the instance is open, but could not be verified: ${unverified}`],
  };
}

function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1000;
}
