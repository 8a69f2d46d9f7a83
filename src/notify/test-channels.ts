import { randomUUID } from 'node:crypto';
import { attemptDelivery } from './attempt-delivery.ts';
import type { Channel } from './channel.ts';
import type { Message, Notification } from './notification.ts';
import { formatMoment } from './wording.ts';

export interface ChannelTest {
  readonly channel: string;
  readonly type: Channel['type'];
  readonly destination: string;
  readonly isDelivered: boolean;
  readonly problem: string | null;
  readonly hint: string | null;
  readonly seconds: number;
}

/** Sends a test to every one of these channels, once, past outbox and history: what comes of it is the answer. */
export async function testChannels(
  channels: readonly Channel[],
  instance: string,
  signal: AbortSignal,
): Promise<readonly ChannelTest[]> {
  return await Promise.all(
    channels.map(async channel => {
      const startedAt = performance.now();
      const result = await testChannel(channel, instance, signal);
      const { name, type, destination } = channel;
      return { channel: name, type, destination, ...result, seconds: (performance.now() - startedAt) / 1000 };
    }),
  );
}

async function testChannel(
  channel: Channel,
  instance: string,
  signal: AbortSignal,
): Promise<Pick<ChannelTest, 'isDelivered' | 'problem' | 'hint'>> {
  const first = testNotification(channel, instance);
  const sent = await attemptDelivery(channel, messageFor(first), signal);
  if (!sent.isDelivered) return { isDelivered: false, problem: sent.problem, hint: sent.hint };
  if (channel.type !== 'pagerduty') return { isDelivered: true, problem: sent.problem, hint: null };
  // What it opened is to be closed again: nobody should have to.
  const closed = await attemptDelivery(channel, messageFor({ ...first, resolvedOf: first.dedupKey }), signal);
  if (closed.isDelivered) return { isDelivered: true, problem: null, hint: null };
  const problem = `the test was opened, and is to be closed by hand: ${closed.problem}`;
  return { isDelivered: true, problem, hint: closed.hint };
}

function messageFor(notification: Notification): Message {
  return { id: randomUUID(), notification, raisedAt: new Date(), isLate: false };
}

function testNotification(channel: Channel, instance: string): Notification {
  return {
    kind: 'test',
    severity: 'info',
    instance,
    title: 'This is a test: alerts of aishell arrive here',
    facts: [
      ['Channel', `${channel.name} (${channel.type})`],
      ['Sent', formatMoment(new Date())],
    ],
    commands: [{ title: 'Who is told what', command: 'aishell backup alert list' }],
    dedupKey: `aishell/${instance}/test/${randomUUID()}`,
  };
}
