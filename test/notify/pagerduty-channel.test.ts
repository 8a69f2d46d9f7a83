import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeliveryError } from '../../src/notify/channel.ts';
import { openChannel } from '../../src/notify/open-channel.ts';
import type { TemporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, reply, startReceiver } from './alert-receiver.ts';
import { pagerDutyApi } from './published-apis.ts';
import { directoryWithCa, everything, massDelete, messageOf, never } from './sample-alerts.ts';

const routingKey = 'R0123456789abcdefghijklmnopqrstu';
let pagerduty: AlertReceiver;
let directory: TemporaryDirectory & { readonly ca: string };
beforeAll(async () => {
  pagerduty = await startReceiver(pagerDutyApi);
  directory = await directoryWithCa();
});
afterAll(async () => {
  await pagerduty[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function channel(key = routingKey) {
  return openChannel(
    {
      name: 'pagerduty',
      type: 'pagerduty',
      hears: everything,
      routingKey: 'env:KEY',
      url: `${pagerduty.url}/v2/enqueue`,
      allowPrivate: true,
      allowHttp: false,
      ca: directory.ca,
    },
    { env: { KEY: key } },
  );
}

const last = (): unknown => JSON.parse(pagerduty.requests.at(-1)?.body ?? '');

describe('pagerduty', () => {
  it('an incident - exactly this event', async () => {
    await expect(channel().deliver(messageOf(massDelete), never)).resolves.toEqual({ problem: null });
    expect(last()).toEqual({
      routing_key: routingKey,
      dedup_key: 'aishell/production/incident/i-1',
      event_action: 'trigger',
      client: 'aishell',
      payload: {
        summary: "production: DELETE operation removed 3,214,567 rows from 'users' table",
        source: 'production',
        severity: 'critical',
        timestamp: '2025-10-27T14:00:23.145Z',
        component: 'postgresql',
        class: 'incident',
        custom_details: {
          Detected: '2025-10-27 14:00:23 UTC',
          'Data loss': '100% of table',
          Query: 'DELETE FROM users WHERE 1=1 AND a <> b & c',
          Incident: 'i-1',
          Commands: ['Restore to just before: aishell backup restore --point-in-time "2025-10-27 13:59:59"'],
        },
      },
    });
  });

  it('acknowledged, then resolved - the key and nothing else', async () => {
    const { dedupKey } = massDelete;
    for (const [event_action, of] of [
      ['acknowledge', { acknowledgedOf: dedupKey }],
      ['resolve', { resolvedOf: dedupKey }],
    ] as const) {
      await channel().deliver(messageOf({ ...massDelete, dedupKey: 'other', ...of }), never);
      expect(last()).toEqual({ routing_key: routingKey, dedup_key: dedupKey, event_action });
    }
  });

  it('a key of 300 characters - shortened, the same for both, and another for another', async () => {
    const long = { ...massDelete, dedupKey: 'k'.repeat(300) };
    const keys: string[] = [];
    for (const each of [
      long,
      { ...long, resolvedOf: long.dedupKey },
      { ...long, dedupKey: 'k'.repeat(301) },
    ]) {
      await channel().deliver(messageOf(each), never);
      keys.push((last() as { dedup_key: string }).dedup_key);
    }
    expect(keys[0]).toHaveLength(64);
    expect(keys[1]).toBe(keys[0]);
    expect(keys[2]).not.toBe(keys[0]);
  });

  it('refused - its errors are told, without the key', async () => {
    pagerduty.answer = reply(
      400,
      JSON.stringify({
        status: 'invalid event',
        message: 'Event object is invalid',
        errors: [`routing key ${routingKey} is unknown`],
      }),
    );
    const error = await channel()
      .deliver(messageOf(massDelete), never)
      .catch(thrown => thrown as DeliveryError);
    expect(error).toMatchObject({
      isLasting: true,
      message: `unable to deliver to '127.0.0.1:${pagerduty.port}': it answered 400, Event object is invalid; routing key [redacted] is unknown`,
    });
    pagerduty.answer = reply(429, '', { 'retry-after': '2' });
    await expect(channel().deliver(messageOf(massDelete), never)).rejects.toMatchObject({
      isLasting: false,
      retryAfterMs: 2000,
    });
    pagerduty.answer = reply(502, '<html>');
    await expect(channel().deliver(messageOf(massDelete), never)).rejects.toMatchObject({ isLasting: false });
    pagerduty.answer = pagerDutyApi;
  });

  it('a routing key that cannot be one - refused without repeating it', async () => {
    const error = await channel('hunter2').deliver(messageOf(massDelete), never).catch(String);
    expect(error).toContain('must be 32 letters and digits');
    expect(error).not.toContain('hunter2');
  });
});
