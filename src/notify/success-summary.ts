import { formatBytes, formatCount, formatSeconds } from '../base/sizes.ts';
import type { AlertPolicy, SuccessFrequency } from './alert-policy.ts';
import type { Alerting, NotifyOptions } from './alerting.ts';
import { changeHistory } from './history-file.ts';
import type { Notification } from './notification.ts';
import { type NotifyResult, notify } from './notify.ts';
import { formatMoment } from './wording.ts';

/** Something that was done, or failed, in the time a summary is about. */
export interface ActivityRecord {
  readonly activity: 'backup' | 'restore test' | 'verification' | 'replication';
  readonly at: Date;
  readonly isOk: boolean;
  readonly seconds: number | null;
  readonly bytes: number | null;
}

export interface SummaryRequest {
  readonly instance: string;
  /** Of the last month at least; which of them count is decided here. */
  readonly activities: readonly ActivityRecord[];
  /** Further lines, like the recovery window. */
  readonly facts?: Notification['facts'];
}

const DAY_MS = 86_400_000;
const periodsMs: Readonly<Record<SuccessFrequency, number | null>> = {
  never: null,
  always: null,
  daily: DAY_MS,
  weekly: 7 * DAY_MS,
  monthly: 30 * DAY_MS,
};

/**
 * Sends the summary of an instance when one is due. The agent calls it now and then; null when it is not due, or when
 * something failed in that time: that was told when it happened, and "all is well" would be wrong.
 */
export async function sendSuccessSummary(
  alerting: Alerting,
  request: SummaryRequest,
  options: NotifyOptions,
): Promise<NotifyResult | null> {
  const { policy, directory } = alerting;
  const nowMs = (options.now ?? Date.now)();
  // Marked before it is sent: of two agents only one sends it.
  const since = await changeHistory(directory, before => {
    const sinceMs = before.summarizedMs[request.instance] ?? null;
    const isDue = isSummaryDue(policy, sinceMs, nowMs);
    if (sinceMs !== null && !isDue && sinceMs <= nowMs) return { history: before, result: null };
    const summarizedMs = { ...before.summarizedMs, [request.instance]: nowMs };
    return { history: { ...before, summarizedMs }, result: isDue ? sinceMs : null };
  });
  if (since === null) return null;
  const notification = composeSuccessSummary(request, policy, { from: new Date(since), to: new Date(nowMs) });
  return notification === null ? null : await notify(alerting, notification, options);
}

/** @param sinceMs when the last one was sent; null: none yet, and the first period begins now */
export function isSummaryDue(policy: AlertPolicy, sinceMs: number | null, nowMs: number): boolean {
  const periodMs = periodsMs[policy.onSuccess.frequency];
  return periodMs !== null && sinceMs !== null && nowMs - sinceMs >= periodMs;
}

/**
 * The summary of a period: null when something failed in it. Where nothing was done at all it is a failure: silence
 * would look like success.
 */
export function composeSuccessSummary(
  { instance, activities, facts = [] }: SummaryRequest,
  policy: AlertPolicy,
  { from, to }: { readonly from: Date; readonly to: Date },
): Notification | null {
  const within = activities.filter(({ at }) => at > from && at <= to);
  const period = `${formatMoment(from)} to ${formatMoment(to)}`;
  const common = { instance, dedupKey: `aishell/${instance}/summary/${to.toISOString().slice(0, 10)}` };
  if (within.length === 0) {
    return {
      ...common,
      kind: 'failure',
      severity: policy.onFailure.severity,
      title: 'Nothing was backed up or tested',
      facts: [['Period', period], ...facts],
      commands: [{ title: 'What is wrong', command: `aishell --instance ${instance} doctor` }],
    };
  }
  if (within.some(({ isOk }) => !isOk)) return null;
  const counts = [...new Set(within.map(({ activity }) => activity))].map(activity =>
    describeActivity(activity, within),
  );
  return {
    ...common,
    kind: 'summary',
    severity: policy.onSuccess.severity,
    title: `${formatCount(within.length)} of ${formatCount(within.length)} backups and checks succeeded`,
    facts: [['Period', period], ...counts, ...facts],
    commands: [],
  };
}

function describeActivity(
  activity: ActivityRecord['activity'],
  all: readonly ActivityRecord[],
): readonly [string, string] {
  const done = all.filter(each => each.activity === activity);
  const bytes = done.reduce((sum, each) => sum + (each.bytes ?? 0), 0);
  const longest = Math.max(...done.map(each => each.seconds ?? 0));
  const last = done.reduce((latest, { at }) => (at > latest ? at : latest), new Date(0));
  const parts = [
    formatCount(done.length),
    ...(bytes > 0 ? [formatBytes(bytes)] : []),
    ...(longest > 0 ? [`the longest ${formatSeconds(longest)}`] : []),
    `the last ${formatMoment(last)}`,
  ];
  return [`${activity.slice(0, 1).toUpperCase()}${activity.slice(1)}s`, parts.join(', ')];
}
