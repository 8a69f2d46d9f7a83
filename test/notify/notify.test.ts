import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import type { AlertPolicy } from '../../src/notify/alert-policy.ts';
import type { Alerting } from '../../src/notify/alerting.ts';
import { readAlertingStatus } from '../../src/notify/alerting-status.ts';
import { failureNotification, recoveryNotification } from '../../src/notify/failure-notification.ts';
import { flushOutbox } from '../../src/notify/flush-outbox.ts';
import type { Notification } from '../../src/notify/notification.ts';
import { type NotifyResult, notify } from '../../src/notify/notify.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, inTurn, reply, startReceiver } from './alert-receiver.ts';
import { slackApi } from './published-apis.ts';
import { allTold, massDelete, never } from './sample-alerts.ts';
import { alertingWith, SECRET_PATH, slackAt, titlesAt } from './slack-alerting.ts';

let directory: TemporaryDirectory;
let slack: AlertReceiver;
let other: AlertReceiver;
beforeEach(async () => {
  directory = await temporaryDirectory();
  slack = await startReceiver(slackApi, { isTls: false });
  other = await startReceiver(slackApi, { isTls: false });
});
afterEach(async () => {
  await slack[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const minute = 60_000;
const hour = 60 * minute;
const noon = Date.parse('2025-10-27T12:00:00Z');

/** Two channels, `slack` and `other`. */
function both(policy: Partial<AlertPolicy> = {}): Alerting {
  return alertingWith(directory.path, [slackAt('slack', slack), slackAt('other', other)], policy);
}

function one(policy: Partial<AlertPolicy> = {}): Alerting {
  return alertingWith(directory.path, [slackAt('slack', slack)], policy);
}

async function tell(alerting: Alerting, notification: Notification, nowMs = noon): Promise<NotifyResult> {
  return await notify(alerting, notification, { signal: never, timeoutMs: 3000, now: () => nowMs });
}

async function flush(alerting: Alerting, nowMs: number) {
  return await flushOutbox(alerting, { signal: never, now: () => nowMs });
}

const states = ({ outcomes }: NotifyResult): string[] => outcomes.map(({ state }) => state);
const waiting = (channel = 'slack'): string[] => readdirSync(join(directory.path, 'outbox', channel));

const backupFailed = (
  error: unknown = new AppError('STORAGE_FULL', 'unable to put a pack'),
  policy = allTold,
): Notification =>
  failureNotification(
    { instance: 'production', subject: 'backup', title: 'The backup failed', error },
    policy,
  );

describe('who is told', () => {
  it('an incident - every channel, at once, and nothing is left behind', async () => {
    const result = await tell(both(), massDelete);
    expect(states(result)).toEqual(['delivered', 'delivered']);
    expect(result.problems).toEqual([]);
    expect([titlesAt(slack), titlesAt(other)]).toEqual([[massDelete.title], [massDelete.title]]);
    expect([waiting('slack'), waiting('other')]).toEqual([[], []]);
  });

  it('lists of the policy - each kind where it belongs', async () => {
    const alerting = both({
      onIncident: { channels: ['slack', 'other'] },
      onFailure: { channels: ['other'], severity: 'critical' },
    });
    await tell(alerting, backupFailed());
    await tell(alerting, massDelete);
    expect(titlesAt(slack)).toEqual([massDelete.title]);
    expect(titlesAt(other)).toEqual(['The backup failed', massDelete.title]);
  });

  it('what a channel wants to hear - nothing less severe, no other kind', async () => {
    const channels = [
      slackAt('slack', slack, { minSeverity: 'critical', kinds: null }),
      slackAt('other', other, { minSeverity: 'info', kinds: ['incident'] }),
    ];
    const alerting = alertingWith(directory.path, channels);
    await tell(alerting, backupFailed());
    expect([slack.requests.length, other.requests.length]).toEqual([0, 0]);
    await tell(alerting, massDelete);
    expect([slack.requests.length, other.requests.length]).toEqual([1, 1]);
  });

  it('a list with a name that no channel has - said; and when no name is right, everybody hears', async () => {
    const partly = await tell(both({ onIncident: { channels: ['slack', 'slcak'] } }), massDelete);
    expect(partly.outcomes.map(({ channel }) => channel)).toEqual(['slack']);
    expect(partly.problems).toEqual(["there is no channel 'slcak', which alerts are to go to"]);
    const alerting = both({ onIncident: { channels: ['slcak'] } });
    const wrong = await tell(alerting, { ...massDelete, dedupKey: 'k2' });
    expect(wrong.outcomes.map(({ channel }) => channel)).toEqual(['slack', 'other']);
    expect((await readAlertingStatus(alerting)).problems).toEqual([
      "alerts are to go to 'slcak', and there is no such channel",
    ]);
  });

  it('one success - kept for the summary, unless each is wanted', async () => {
    const success: Notification = {
      ...massDelete,
      kind: 'success',
      severity: 'info',
      title: 'A backup was made',
    };
    expect((await tell(one(), success)).outcomes).toEqual([]);
    const each = one({ onSuccess: { channels: null, severity: 'info', frequency: 'always' } });
    expect(states(await tell(each, success))).toEqual(['delivered']);
  });
});

describe('how often', () => {
  it('a failure that goes on - told once, again after a while, at once when it is worse', async () => {
    expect(states(await tell(one(), backupFailed()))).toEqual(['delivered']);
    // As another process would find it.
    const again = await tell(one(), backupFailed(new Error('in other words')), noon + hour);
    expect(again.outcomes).toMatchObject([{ state: 'suppressed', problem: 'it was told already' }]);
    const critical = { ...allTold, onFailure: { channels: null, severity: 'critical' } } as const;
    expect(states(await tell(one(), backupFailed(null, critical), noon + hour))).toEqual(['delivered']);
    expect(states(await tell(one(), backupFailed(), noon + 4 * hour))).toEqual(['suppressed']);
    expect(states(await tell(one(), backupFailed(), noon + 5 * hour))).toEqual(['delivered']);
    // A clock that was set back silences nothing.
    expect(states(await tell(one(), backupFailed(), noon - hour))).toEqual(['delivered']);
  });

  it('it works again - told where the failure was told, once, whatever the severity; then a new failure is news', async () => {
    const loud = slackAt('slack', slack, { minSeverity: 'warning', kinds: null });
    const alerting = alertingWith(directory.path, [
      loud,
      slackAt('other', other, { minSeverity: 'critical', kinds: null }),
    ]);
    const recovery = recoveryNotification({
      instance: 'production',
      subject: 'backup',
      title: 'A backup succeeded',
    });
    expect(states(await tell(alerting, recovery))).toEqual(['suppressed', 'suppressed']);
    await tell(alerting, backupFailed());
    expect(states(await tell(alerting, recovery))).toEqual(['delivered', 'suppressed']);
    expect(states(await tell(alerting, recovery))).toEqual(['suppressed', 'suppressed']);
    expect(states(await tell(alerting, backupFailed()))).toEqual(['delivered']);
    expect(titlesAt(slack)).toEqual([
      'The backup failed',
      'Resolved: A backup succeeded',
      'The backup failed',
    ]);
    expect(other.requests).toEqual([]);
  });

  it('an incident that unfolds - at once when it is worse, else the newest numbers a minute later', async () => {
    const update = (title: string, severity: Notification['severity'] = 'critical'): Notification => ({
      ...massDelete,
      severity,
      title,
    });
    await tell(one(), update('1,000 rows', 'warning'));
    expect(states(await tell(one(), update('200,000 rows'), noon + 1000))).toEqual(['delivered']);
    expect(states(await tell(one(), update('300,000 rows'), noon + 2000))).toEqual(['deferred']);
    expect(states(await tell(one(), update('400,000 rows'), noon + 3000))).toEqual(['deferred']);
    expect(await flush(one(), noon + 30_000)).toMatchObject({ delivered: 0, waiting: 1 });
    expect(await flush(one(), noon + 2 * minute)).toMatchObject({ delivered: 1, waiting: 0 });
    expect(titlesAt(slack)).toEqual(['1,000 rows', '200,000 rows', '400,000 rows']);
    expect(states(await tell(one(), update('400,000 rows'), noon + 3 * minute))).toEqual(['suppressed']);
  });

  it('updates without end - one a minute, the newest of each', async () => {
    for (let second = 0; second <= 200; second += 4) {
      const nowMs = noon + second * 1000;
      await tell(one(), { ...massDelete, title: `${second} s` }, nowMs);
      await flush(one(), nowMs + 1);
    }
    expect(titlesAt(slack)).toEqual(['0 s', '60 s', '120 s', '180 s']);
  });

  it('acknowledged and resolved - each told once', async () => {
    await tell(one(), massDelete);
    const acknowledged = { ...massDelete, acknowledgedOf: massDelete.dedupKey };
    const resolved = { ...massDelete, resolvedOf: massDelete.dedupKey };
    for (const state of ['delivered', 'suppressed'])
      expect(states(await tell(one(), acknowledged))).toEqual([state]);
    for (const state of ['delivered', 'suppressed'])
      expect(states(await tell(one(), resolved))).toEqual([state]);
  });

  it('a flood - waits its turn, what is critical does not', async () => {
    const few = one({ mostPerHour: 2 });
    const nth = (n: number, severity: Notification['severity']): Notification => ({
      ...massDelete,
      dedupKey: `k${n}`,
      title: `t${n}`,
      severity,
    });
    await tell(few, nth(1, 'info'));
    await tell(few, nth(2, 'info'));
    expect(states(await tell(few, nth(3, 'warning')))).toEqual(['deferred']);
    expect(states(await tell(few, nth(4, 'critical')))).toEqual(['delivered']);
    expect(await flush(few, noon + 61 * minute)).toMatchObject({ delivered: 1 });
    expect(titlesAt(slack)).toEqual(['t1', 't2', 't4', 't3']);
    // The backlog keeps to the limit too.
    for (let n = 10; n < 16; n += 1) await tell(few, nth(n, 'info'), noon + 62 * minute);
    expect(states(await tell(few, nth(15, 'info'), noon + 63 * minute))).toEqual(['suppressed']);
    const delivered: number[] = [];
    for (let hours = 2; hours <= 6; hours += 1)
      delivered.push((await flush(few, noon + hours * hour + 10 * minute)).delivered);
    expect(delivered.reduce((sum, count) => sum + count, 0)).toBe(5);
    expect(Math.max(...delivered)).toBeLessThanOrEqual(2);
  });
});

describe('a channel in trouble', () => {
  it('fails once, or is busy - delivered by the same call', async () => {
    slack.answer = inTurn(reply(503), reply(429, '', { 'retry-after': '1' }), slackApi);
    const result = await tell(one(), massDelete);
    expect(states(result)).toEqual(['delivered']);
    expect(slack.requests).toHaveLength(3);
    expect(result.outcomes[0]?.seconds).toBeGreaterThan(1.2);
  });

  it('hangs - the other is told at once, the caller waits no longer than it said, and nothing is lost', async () => {
    slack.answer = () => undefined;
    const startedAt = performance.now();
    const result = await notify(both(), massDelete, { signal: never, timeoutMs: 500, now: () => noon });
    const took = performance.now() - startedAt;
    expect(took).toBeGreaterThan(400);
    expect(took).toBeLessThan(2000);
    expect(states(result)).toEqual(['queued', 'delivered']);
    expect(result.outcomes[1]?.seconds).toBeLessThan(0.4);
    expect(result.problems).toEqual(["channel 'slack': there was no time left for an answer"]);
    slack.answer = slackApi;
    expect(await flush(both(), noon + 5 * minute)).toEqual({
      delivered: 1,
      waiting: 0,
      dropped: 0,
      problems: [],
    });
    expect(slack.requests.at(-1)?.body).toContain('*Delivered late*\\nraised at 2025-10-27 12:00:00 UTC');
    expect(other.requests).toHaveLength(1);
  });

  it('refuses for good - asked once, kept for when it is put right', async () => {
    slack.answer = reply(404, 'no_service');
    const result = await tell(one(), massDelete);
    expect(states(result)).toEqual(['queued']);
    expect(slack.requests).toHaveLength(1);
    expect(await flush(one(), noon + 30 * minute)).toMatchObject({ delivered: 0, waiting: 1 });
    expect(slack.requests).toHaveLength(1);
    expect(await readAlertingStatus(one(), noon)).toMatchObject({
      channels: [{ waiting: 1, deliveredAt: null, problem: expect.stringContaining('no_service') }],
    });
    slack.answer = slackApi;
    expect(await flush(one(), noon + 61 * minute)).toMatchObject({ delivered: 1 });
    expect(await readAlertingStatus(one())).toMatchObject({ channels: [{ waiting: 0, problem: null }] });
  });

  it('the end of what could not be told yet - comes after its beginning', async () => {
    slack.answer = reply(500);
    await notify(one(), massDelete, { signal: never, timeoutMs: 50, now: () => noon });
    const resolved = { ...massDelete, resolvedOf: massDelete.dedupKey };
    const early = await notify(one(), resolved, { signal: never, timeoutMs: 50, now: () => noon + 1000 });
    expect(early.outcomes).toMatchObject([
      { state: 'queued', problem: 'what was told before it is not delivered yet' },
    ]);
    expect(waiting()).toHaveLength(2);
    slack.answer = inTurn(reply(500), slackApi);
    expect(await flush(one(), noon + 10 * minute)).toMatchObject({ delivered: 0, waiting: 2 });
    const before = slack.requests.length;
    expect(await flush(one(), noon + 20 * minute)).toMatchObject({ delivered: 2 });
    expect(titlesAt(slack).slice(before)).toEqual([massDelete.title, `Resolved: ${massDelete.title}`]);
  });

  it('an update of what could not be told yet - stands for both', async () => {
    slack.answer = reply(500);
    await notify(one(), massDelete, { signal: never, timeoutMs: 50, now: () => noon });
    slack.answer = slackApi;
    const before = slack.requests.length;
    const update = { ...massDelete, title: 'twice as many' };
    expect(states(await tell(one(), update, noon + 5 * minute))).toEqual(['delivered']);
    expect(waiting()).toEqual([]);
    expect(titlesAt(slack).slice(before)).toEqual(['twice as many']);
    expect(slack.requests.at(-1)?.body).toContain('raised at 2025-10-27 12:00:00 UTC');
  });

  it('a cancelled caller - the notification is kept', async () => {
    const stopped = await notify(one(), massDelete, { signal: AbortSignal.abort(), now: () => noon });
    expect(states(stopped)).toEqual(['queued']);
    expect(await flush(one(), noon + minute)).toMatchObject({ delivered: 1 });
  });

  it('no secret of it - in no file, and every file is for its owner alone', async () => {
    slack.answer = reply(404, `${SECRET_PATH} is gone`);
    const result = await tell(both(), massDelete);
    expect(JSON.stringify(result)).not.toContain('topsecretpart');
    const entries = readdirSync(directory.path, { recursive: true, withFileTypes: true });
    expect(entries.some(entry => entry.name.endsWith('.json') && entry.parentPath.endsWith('slack'))).toBe(
      true,
    );
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name);
      expect(statSync(path).mode & 0o077, path).toBe(0);
      if (entry.isFile()) expect(readFileSync(path, 'utf8'), path).not.toContain('topsecretpart');
    }
  });
});

describe('no place for the outbox', () => {
  it.each([
    ['none', () => null],
    [
      'a file in its way',
      () => {
        const file = join(directory.path, 'file');
        writeFileSync(file, '');
        return file;
      },
    ],
  ])('%s - delivered all the same; what is not delivered is said to be lost', async (_name, place) => {
    const alerting = alertingWith(place(), [slackAt('slack', slack)]);
    expect(states(await tell(alerting, massDelete))).toEqual(['delivered']);
    slack.answer = reply(404);
    const lost = await tell(alerting, { ...massDelete, dedupKey: 'k2' });
    expect(states(lost)).toEqual(['lost']);
    expect(lost.problems[0]).toMatch(/answered 404.*outbox/);
    expect((await flush(alerting, noon)).delivered).toBe(0);
  });
});
