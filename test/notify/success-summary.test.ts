import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AlertPolicy } from '../../src/notify/alert-policy.ts';
import {
  type ActivityRecord,
  composeSuccessSummary,
  sendSuccessSummary,
} from '../../src/notify/success-summary.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, startReceiver } from './alert-receiver.ts';
import { slackApi } from './published-apis.ts';
import { allTold, never } from './sample-alerts.ts';
import { alertingWith, slackAt, titlesAt } from './slack-alerting.ts';

const day = 86_400_000;
const start = Date.parse('2025-10-20T00:00:00Z');
const policyOf = (frequency: AlertPolicy['onSuccess']['frequency']): AlertPolicy => ({
  ...allTold,
  onSuccess: { channels: null, severity: 'info', frequency },
});
const done = (atMs: number, more: Partial<ActivityRecord> = {}): ActivityRecord => ({
  activity: 'backup',
  at: new Date(atMs),
  isOk: true,
  seconds: 61,
  bytes: 2e9,
  ...more,
});
const week = { from: new Date(start), to: new Date(start + 7 * day) };

describe('composeSuccessSummary', () => {
  it('all went well - what was done, how much, when last', () => {
    const activities = [
      done(start + day),
      done(start + 3 * day, { seconds: 75 }),
      done(start + 2 * day, { activity: 'restore test', seconds: 12, bytes: null }),
      done(start - day, { isOk: false }),
    ];
    const facts = [['Recovery window', '7 days']] as const;
    expect(composeSuccessSummary({ instance: 'production', activities, facts }, allTold, week)).toEqual({
      kind: 'summary',
      severity: 'info',
      instance: 'production',
      title: '3 of 3 backups and checks succeeded',
      facts: [
        ['Period', '2025-10-20 00:00:00 UTC to 2025-10-27 00:00:00 UTC'],
        ['Backups', '2, 4.0 GB, the longest 1m 15s, the last 2025-10-23 00:00:00 UTC'],
        ['Restore tests', '1, the longest 12.0s, the last 2025-10-22 00:00:00 UTC'],
        ['Recovery window', '7 days'],
      ],
      commands: [],
      dedupKey: 'aishell/production/summary/2025-10-27',
    });
  });

  it('something failed - nothing: it was told when it happened', () => {
    const activities = [done(start + day), done(start + 2 * day, { isOk: false })];
    expect(composeSuccessSummary({ instance: 'production', activities }, allTold, week)).toBeNull();
  });

  it('nothing was done - a failure, as silence would look like success', () => {
    const found = composeSuccessSummary({ instance: 'production', activities: [] }, allTold, week);
    expect(found).toMatchObject({
      kind: 'failure',
      severity: 'warning',
      title: 'Nothing was backed up or tested',
    });
  });
});

describe('sendSuccessSummary', () => {
  let directory: TemporaryDirectory;
  let slack: AlertReceiver;
  beforeEach(async () => {
    directory = await temporaryDirectory();
    slack = await startReceiver(slackApi, { isTls: false });
  });
  afterEach(async () => {
    await slack[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  async function send(
    nowMs: number,
    frequency: AlertPolicy['onSuccess']['frequency'] = 'weekly',
    instance = 'production',
  ) {
    const alerting = alertingWith(directory.path, [slackAt('slack', slack)], policyOf(frequency));
    const activities = [done(nowMs - 1000)];
    return await sendSuccessSummary(alerting, { instance, activities }, { signal: never, now: () => nowMs });
  }

  it('asked every day - sent once a week, each instance by itself', async () => {
    const sentOn: number[] = [];
    for (let count = 0; count <= 15; count += 1) {
      if ((await send(start + count * day)) !== null) sentOn.push(count);
      if (count === 3) await send(start + count * day, 'weekly', 'staging');
    }
    expect(sentOn).toEqual([7, 14]);
    expect(titlesAt(slack)).toEqual(Array(2).fill('1 of 1 backups and checks succeeded'));
    expect((await send(start + 16 * day, 'weekly', 'staging'))?.outcomes).toMatchObject([
      { state: 'delivered' },
    ]);
  });

  it('by two at the same time - sent once', async () => {
    await send(start);
    const both = await Promise.all([send(start + 8 * day), send(start + 8 * day)]);
    expect(both.filter(result => result !== null)).toHaveLength(1);
    expect(slack.requests).toHaveLength(1);
  });

  it('never, or each by itself - no summary', async () => {
    for (const frequency of ['never', 'always'] as const)
      for (let count = 0; count <= 40; count += 10)
        expect(await send(start + count * day, frequency)).toBeNull();
    expect(slack.requests).toEqual([]);
  });
});
