import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeliveryError, SlackSettings } from '../../src/notify/channel.ts';
import { openChannel } from '../../src/notify/open-channel.ts';
import type { TemporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, type Answer, reply, startReceiver } from './alert-receiver.ts';
import { type Json, slackApi } from './published-apis.ts';
import { directoryWithCa, everything, massDelete, messageOf, never } from './sample-alerts.ts';

const path = '/services/T0000/B0000/topsecretpart';
let slack: AlertReceiver;
let directory: TemporaryDirectory & { readonly ca: string };
beforeAll(async () => {
  slack = await startReceiver(slackApi);
  directory = await directoryWithCa();
});
afterAll(async () => {
  await slack[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function channel(url = `${slack.url}${path}`) {
  const settings: SlackSettings = {
    name: 'slack',
    type: 'slack',
    hears: everything,
    webhook: 'env:SLACK',
    allowPrivate: true,
    allowHttp: false,
    ca: directory.ca,
  };
  return openChannel(settings, { env: { SLACK: url } });
}

async function failure(answer: Answer): Promise<DeliveryError> {
  slack.answer = answer;
  try {
    await channel().deliver(messageOf(massDelete), never);
  } catch (error) {
    return error as DeliveryError;
  } finally {
    slack.answer = slackApi;
  }
  throw new Error('it was delivered');
}

describe('slack', () => {
  it('an incident - exactly this message', async () => {
    await expect(channel().deliver(messageOf(massDelete), never)).resolves.toEqual({ problem: null });
    const request = slack.requests.at(-1);
    expect(request?.path).toBe(path);
    expect(JSON.parse(request?.body ?? '')).toEqual({
      text: "🚨 production: DELETE operation removed 3,214,567 rows from 'users' table",
      blocks: [
        {
          type: 'header',
          text: {
            type: 'plain_text',
            text: "🚨 DELETE operation removed 3,214,567 rows from 'users' table",
            emoji: true,
          },
        },
        {
          type: 'section',
          fields: [
            { type: 'mrkdwn', text: '*Detected*\n2025-10-27 14:00:23 UTC' },
            { type: 'mrkdwn', text: '*Data loss*\n100% of table' },
            { type: 'mrkdwn', text: '*Query*\nDELETE FROM users WHERE 1=1 AND a &lt;&gt; b &amp; c' },
          ],
        },
        {
          type: 'section',
          text: {
            type: 'mrkdwn',
            text: 'Restore to just before\n```aishell backup restore --point-in-time "2025-10-27 13:59:59"```',
          },
        },
        {
          type: 'context',
          elements: [
            {
              type: 'mrkdwn',
              text: 'Severity: *critical*  ·  Instance: *production*  ·  Incident: `i-1`  ·  2025-10-27 14:00:23 UTC',
            },
          ],
        },
      ],
      unfurl_links: false,
      unfurl_media: false,
    });
  });

  it('its end, told late - says both', async () => {
    const resolved = { ...massDelete, resolvedOf: massDelete.dedupKey };
    await channel().deliver({ ...messageOf(resolved), isLate: true }, never);
    const message: Json = JSON.parse(slack.requests.at(-1)?.body ?? '');
    expect(message.blocks[0].text.text).toMatch(/^✅ Resolved: DELETE/);
    expect(message.blocks[1].fields[0].text).toBe('*Delivered late*\nraised at 2025-10-27 14:00:23 UTC');
  });

  it('texts of any length and with markup in them - a message that Slack takes', async () => {
    const long = {
      ...massDelete,
      title: `<!channel> ${'x'.repeat(240)}`,
      facts: Array.from({ length: 20 }, (_, index) => [`fact ${index}`, '<&>'.repeat(300)] as const),
      commands: [{ title: '<@U1>', command: '```&'.repeat(100) }],
    };
    await expect(channel().deliver(messageOf(long), never)).resolves.toEqual({ problem: null });
    const message: Json = JSON.parse(slack.requests.at(-1)?.body ?? '');
    const texts = message.blocks.flatMap((block: Json) => block.fields ?? block.elements ?? [block.text]);
    const marked = texts.filter(({ type }: Json) => type === 'mrkdwn').map(({ text }: Json) => text);
    for (const text of [message.text, ...marked]) {
      // A header is plain text, where nothing is a mention; everywhere else all of it is escaped, and no escape is cut.
      expect(text).not.toMatch(/[<>]|&(?!amp;|lt;|gt;)/);
    }
  });

  it.each([
    [400, 'invalid_payload', true],
    [403, 'action_prohibited', true],
    [404, 'no_service', true],
    [410, 'channel_is_archived', true],
    [500, 'rollup_error', false],
    [503, '', false],
  ])('%i %s - refused, with its words, lasting: %s', async (status, text, isLasting) => {
    const error = await failure(reply(status, text));
    expect(error).toMatchObject({ code: 'CHANNEL_FAILED', isLasting });
    expect(error.message).toBe(
      `unable to deliver to '127.0.0.1:${slack.port}': it answered ${status}${text === '' ? '' : `, ${text}`}`,
    );
  });

  it('429 - how long to wait is taken over', async () => {
    const error = await failure(reply(429, 'rate_limited', { 'retry-after': '7' }));
    expect(error).toMatchObject({ isLasting: false, retryAfterMs: 7000 });
    expect((await failure(reply(429, '', { 'retry-after': '999999' }))).retryAfterMs).toBe(3_600_000);
  });

  it('200 with a page of somebody else - not delivered', async () => {
    expect((await failure(reply(200, '<html>Log in</html>'))).message).toContain('answered 200');
  });

  it('an answer that repeats the URL, or is endless - no secret in the error, and an end', async () => {
    const repeats = await failure(reply(404, `no_service ${path} ${slack.url}${path}`));
    expect(`${repeats.message} ${JSON.stringify(repeats)} ${repeats.stack}`).not.toContain('topsecretpart');
    const endless = await failure((_request, response) => {
      response.writeHead(500);
      const more = (): void =>
        void (response.write('x'.repeat(65_536)) ? setImmediate(more) : response.once('drain', more));
      response.on('error', () => undefined);
      more();
    });
    expect(endless.message.length).toBeLessThan(300);
  });

  it('a URL that is no URL, or written out - refused without repeating it', async () => {
    await expect(channel('topsecretpart').deliver(messageOf(massDelete), never)).rejects.toThrow(
      'unable to send to an address that is no https:// URL',
    );
    const written = openChannel(
      {
        name: 's',
        type: 'slack',
        hears: everything,
        webhook: 'https://x/topsecretpart',
        allowPrivate: false,
        allowHttp: false,
        ca: null,
      },
      { env: {} },
    );
    const error: unknown = await written.deliver(messageOf(massDelete), never).catch(thrown => thrown);
    expect(error).toMatchObject({ code: 'SECRET_EXPOSED' });
    expect(String(error)).not.toContain('topsecretpart');
  });
});
