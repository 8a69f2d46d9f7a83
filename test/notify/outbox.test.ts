import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Alerting } from '../../src/notify/alerting.ts';
import { readAlertingStatus } from '../../src/notify/alerting-status.ts';
import { flushOutbox } from '../../src/notify/flush-outbox.ts';
import type { Notification } from '../../src/notify/notification.ts';
import { notify } from '../../src/notify/notify.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, reply, startReceiver } from './alert-receiver.ts';
import { slackApi } from './published-apis.ts';
import { massDelete, never } from './sample-alerts.ts';
import { alertingWith, slackAt, titlesAt } from './slack-alerting.ts';

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

const second = 1000;
const day = 86_400_000;
const alerting = (): Alerting => alertingWith(directory.path, [slackAt('slack', slack)]);
const waiting = (): string[] => readdirSync(join(directory.path, 'outbox', 'slack'));
const flush = (nowMs = Date.now()) => flushOutbox(alerting(), { signal: never, now: () => nowMs });

/** Notifications that nobody took. */
async function queue(
  count: number,
  severity: Notification['severity'] = 'critical',
  nowMs = Date.now(),
): Promise<void> {
  slack.answer = reply(404, 'no_service');
  for (let n = 0; n < count; n += 1) {
    const notification = { ...massDelete, severity, dedupKey: `${severity}${n}`, title: `${severity} ${n}` };
    await notify(alerting(), notification, { signal: never, now: () => nowMs });
  }
  slack.answer = slackApi;
}

describe('outbox', () => {
  it('killed with SIGKILL while it delivers - delivered by the next, not before the dead one has had its time', async () => {
    slack.answer = () => undefined;
    const child = spawn(
      process.execPath,
      [fileURLToPath(new URL('./notify-child.ts', import.meta.url)), directory.path, slack.url],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    const ended = once(child, 'exit');
    await slack.received(1);
    child.kill('SIGKILL');
    await ended;
    slack.answer = slackApi;
    expect(waiting()).toEqual([expect.stringMatching(/\.held$/)]);
    expect(await flush()).toMatchObject({ delivered: 0, waiting: 1 });
    expect(await flush(Date.now() + 30 * second)).toMatchObject({ delivered: 1, waiting: 0 });
    expect(titlesAt(slack)).toEqual([massDelete.title, massDelete.title]);
    expect(waiting()).toEqual([]);
  });

  it('killed before the file was whole - as if it had never been', async () => {
    await queue(1);
    writeFileSync(join(directory.path, 'outbox/slack/.0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11.tmp'), '{"ver');
    expect(await flush(Date.now() + day)).toMatchObject({ delivered: 1, problems: [] });
  });

  it('a damaged file - put aside, the others are delivered', async () => {
    await queue(2);
    const [first = ''] = waiting();
    writeFileSync(join(directory.path, 'outbox/slack', first), '{"version":1,');
    expect(await flush(Date.now() + day)).toMatchObject({ delivered: 1, waiting: 0 });
    expect(waiting()).toEqual([`${first}.damaged`]);
  });

  it('three that deliver at the same time - each notification once, in order', async () => {
    await queue(6);
    const before = slack.requests.length;
    const later = Date.now() + 2 * 3600 * second;
    const results = await Promise.all([flush(later), flush(later), flush(later)]);
    expect(results.reduce((sum, { delivered }) => sum + delivered, 0)).toBe(6);
    expect(titlesAt(slack).slice(before).toSorted()).toEqual(
      Array.from({ length: 6 }, (_, n) => `critical ${n}`),
    );
  });

  it('a channel that is down - three attempts, the others wait', async () => {
    await queue(6);
    slack.answer = reply(500);
    const before = slack.requests.length;
    const result = await flush(Date.now() + 2 * 3600 * second);
    expect(result).toMatchObject({ delivered: 0, waiting: 6 });
    expect(result.problems).toHaveLength(3);
    expect(slack.requests.length - before).toBe(3);
  });

  it('too old to be of use - given up by severity, and counted', async () => {
    const now = Date.now();
    await queue(1, 'info', now);
    await queue(1, 'warning', now + 1);
    await queue(1, 'critical', now + 2);
    expect(await flush(now + 2 * day + 2)).toMatchObject({ delivered: 2, dropped: 1 });
    expect(titlesAt(slack).slice(-2)).toEqual(['warning 0', 'critical 0']);
    expect(await readAlertingStatus(alerting())).toMatchObject({ channels: [{ dropped: 1 }] });
  });

  it('a clock that was an hour ahead - nothing waits for it', async () => {
    await queue(1, 'critical', Date.now() + 3600 * second);
    expect(await flush()).toMatchObject({ delivered: 1 });
  });

  it('tells at the same time from many - none lost, none twice', async () => {
    const many = Array.from({ length: 20 }, (_, n) => ({
      ...massDelete,
      dedupKey: `k${n % 10}`,
      title: `t${n % 10}`,
    }));
    await Promise.all(many.map(each => notify(alerting(), each, { signal: never })));
    expect(titlesAt(slack).toSorted()).toEqual(Array.from({ length: 10 }, (_, n) => `t${n}`));
  });

  it('nothing to do - no request, no file', async () => {
    expect(await flush()).toEqual({ delivered: 0, waiting: 0, dropped: 0, problems: [] });
    expect(readdirSync(directory.path)).toEqual([]);
  });
});
