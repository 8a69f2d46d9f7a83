import { join } from 'node:path';
import { formatMoment } from '../../base/moment.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { BackupFacts, DamagedPage } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { RecoveryWork } from '../recovery-time/recovery-speed.ts';
import type { RewindAmount } from '../rewind/decide-work.ts';
import type { LossAccount } from '../timeline/account-of-loss.ts';
import type { LiveInstance } from './live-instance.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import type { Recovered } from './recover-directory.ts';
import { type EdgeTransaction, isBeforeTransaction } from './recovery-request.ts';

/** The plan of a restore and, once it is done, what was done: plain facts for renderers, JSON and tests. */
export interface RestoreReport {
  readonly dryRun: boolean;
  readonly instance: string;
  readonly backup: BackupFacts;
  readonly mode: 'in-place' | 'directory';
  /** In place: how, and why so; null for a copy. */
  readonly way: RestoreWay | null;
  readonly target: {
    /** As it was asked for. */
    readonly requested: string;
    /** What a description or a name turned out to be; null where nothing had to be found. */
    readonly found: string | null;
    /** Where the recovery stops; null is the end of the log. */
    readonly lsn: string | null;
    readonly lastKept: EdgeFacts | null;
    readonly firstDropped: EdgeFacts | null;
    /** It was asked for by a transaction that is to be undone, which is the first that was dropped. */
    readonly isBefore: boolean;
    /** The incident that was asked for by its id. */
    readonly incident: string | null;
  };
  /** What was committed behind the target; null when that is nothing, or could not be counted. */
  readonly loss: LossAccount | null;
  readonly timeline: number;
  readonly logFiles: number;
  readonly backupBytes: number;
  readonly logBytes: number;
  /** The instance as it is before the restore; null when it could not be found. */
  readonly live: LiveInstance | null;
  /** How the server is stopped and started; null for a copy. */
  readonly service: string | null;
  /** In place: what is kept of the old state, for how long, and the one command that brings it back. */
  readonly safety: { readonly path: string; readonly keepDays: number; readonly goBack: string } | null;
  /** What a rewind changes, or has changed; null where all of the backup is restored. */
  readonly rewind: RewindFacts | null;
  readonly copy: { readonly path: string; readonly port: number; readonly startCommand: string } | null;
  readonly seconds: number;
  /** How fast this machine did it, by the kind of work; null before, and for a rewind that was only finished. */
  readonly work: RecoveryWork | null;
  /** From stopping the server until it was open again; null when it was not running, or for a copy. */
  readonly downtimeSeconds: number | null;
  readonly recovered: Recovered | null;
  /** What needs attention although the restore succeeded: exit code 3. */
  readonly problems: readonly string[];
}

/** A transaction beside the target: of its end the time, and where the record of it starts. */
interface EdgeFacts {
  readonly xid: number;
  readonly time: string;
  readonly lsn: string;
}

export interface RestoreWay {
  readonly kind: 'rewind' | 'full';
  /** Whole sentence. */
  readonly reason: string;
  /** Of what differs between the two ways; null where a rewind is not possible or was not thought of. */
  readonly rewindSeconds: number | null;
  readonly fullSeconds: number | null;
}

export interface RewindFacts {
  readonly amount: RewindAmount;
  /** What was really done, by the run that did it; null before. */
  readonly done: {
    readonly writtenBytes: number;
    readonly copiedBytes: number;
    readonly fetchedBytes: number;
    readonly keptBytes: number;
    /** Pages compared with their checksums before it was opened; null without page checksums. */
    readonly checkedPages: number | null;
    /** Of the log up to the checkpoint before the target, only what pages needed was replayed. */
    readonly isLogThinned: boolean;
  } | null;
}

const SAFETY_DAYS = 7;

/** `20251027_141845`. */
export function restoreStamp(now: Date): string {
  return now.toISOString().replace(/[-:]/g, '').replace('T', '_').slice(0, 15);
}

export function reportOf(made: {
  readonly context: InstanceContext;
  readonly plan: RecoveryPlan;
  readonly live: LiveInstance | null;
  readonly service: string | null;
  readonly mode: RestoreReport['mode'];
  readonly safety: { readonly path: string; readonly goBack: string } | null;
  readonly way?: RestoreWay;
  readonly rewind?: RewindFacts;
  readonly problems?: readonly string[];
  readonly dryRun: boolean;
  readonly seconds: number;
  readonly downtimeSeconds: number | null;
  readonly recovered: Recovered | null;
  readonly copy?: { readonly path: string; readonly port: number; readonly pgCtl: string };
}): RestoreReport {
  const { plan, safety, copy } = made;
  return {
    dryRun: made.dryRun,
    instance: made.context.instance,
    backup: plan.backup,
    mode: made.mode,
    way: made.way ?? null,
    target: {
      requested: describeRequest(plan),
      found: plan.resolved.found,
      lsn: plan.resolved.lsn === null ? null : formatLsn(plan.resolved.lsn),
      lastKept: edgeFacts(plan.resolved.lastKept),
      firstDropped: edgeFacts(plan.resolved.firstDropped),
      isBefore: isBeforeTransaction(plan.request),
      incident: plan.request.kind === 'incident' ? plan.request.id : null,
    },
    loss: plan.loss,
    timeline: plan.timeline,
    logFiles: plan.logFiles.length,
    backupBytes: plan.backupBytes,
    logBytes: plan.logBytes,
    live: made.live,
    service: made.service,
    safety: safety === null ? null : { ...safety, keepDays: SAFETY_DAYS },
    rewind: made.rewind ?? null,
    copy:
      copy === undefined
        ? null
        : {
            path: copy.path,
            port: copy.port,
            startCommand: shellCommand([
              ...[copy.pgCtl, '-D', copy.path, '-l', join(copy.path, 'server.log')],
              'start',
            ]),
          },
    seconds: made.seconds,
    work: null,
    downtimeSeconds: made.downtimeSeconds,
    recovered: made.recovered,
    problems: [
      ...plan.passedOver.map(why => `a backup was passed over: ${why}`),
      ...(made.problems ?? []),
      ...(made.recovered === null ? [] : problemsOf(made.recovered, plan.backup)),
    ],
  };
}

function problemsOf({ checks, pages }: Recovered, backup: BackupFacts): string[] {
  const kinds = [
    // Those that are left here were in the backup already.
    ['index', checks.indexes],
    ['table', checks.tables],
    ['foreign key', checks.foreignKeys],
    ['table', checks.rows],
  ] as const;
  return [
    ...(pages?.damaged ?? []).map(page => `block ${page.block} of ${page.path} ${damageOf(page, backup)}`),
    ...kinds.flatMap(([kind, { problems }]) =>
      problems.map(({ object, database, message }) => `${kind} ${object} in ${database}: ${message}`),
    ),
  ];
}

function damageOf(page: DamagedPage, backup: BackupFacts): string {
  const isKnown = backup.damagedPages.some(each => each.path === page.path && each.block === page.block);
  return isKnown
    ? 'was damaged when it was backed up, and still is'
    : 'has a wrong checksum: no record of the log names it, so the damage was on this disk before; `aishell backup restore --full` to the same moment takes it from the backup';
}

/** What was asked for, for people. */
export function describeRequest({ request }: Pick<RecoveryPlan, 'request'>): string {
  if (request.kind === 'latest') return 'the end of the log';
  if (request.kind === 'backup') return 'the end of the backup';
  if (request.kind === 'time') return formatMoment(request.timeUs);
  if (request.kind === 'lsn') return `position ${formatLsn(request.lsn)}`;
  if (request.kind === 'restore point') return `restore point ${request.name}`;
  if (request.kind === 'change') return request.change.text;
  if (request.kind === 'incident') return `just before incident ${request.id}`;
  return `just ${request.after ? 'after' : 'before'} transaction ${request.xid}`;
}

function edgeFacts(edge: EdgeTransaction | null): EdgeFacts | null {
  return edge && { xid: edge.xid, time: formatMoment(edge.timeUs), lsn: formatLsn(edge.lsn) };
}
