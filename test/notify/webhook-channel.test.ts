import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openChannel } from '../../src/notify/open-channel.ts';
import type { TemporaryDirectory } from '../support/temp.ts';
import { readCheckout } from '../tidy/sources.ts';
import { type AlertReceiver, type ReceivedRequest, reply, startReceiver } from './alert-receiver.ts';
import { directoryWithCa, everything, massDelete, messageOf, never } from './sample-alerts.ts';

const secret = `whsec_${randomBytes(32).toString('base64')}`;
let receiver: AlertReceiver;
let directory: TemporaryDirectory & { readonly ca: string };
beforeAll(async () => {
  receiver = await startReceiver(reply(204));
  directory = await directoryWithCa();
});
afterAll(async () => {
  await receiver[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function channel(options: { readonly url?: string; readonly secret?: string } = {}) {
  return openChannel(
    {
      name: 'ops',
      type: 'webhook',
      hears: everything,
      url: options.url ?? `${receiver.url}/hook?team=dba`,
      secret: 'env:SECRET',
      allowPrivate: true,
      allowHttp: false,
      ca: directory.ca,
    },
    { env: { SECRET: options.secret ?? secret, URL: `${receiver.url}/hidden` } },
  );
}

async function sent(): Promise<ReceivedRequest> {
  await channel().deliver(messageOf(massDelete), never);
  const request = receiver.requests.at(-1);
  if (request === undefined) throw new Error('nothing came');
  return request;
}

/** The example of the manual in a language. */
function example(language: string): string {
  const match = new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(
    readCheckout('docs/notifications.md'),
  );
  if (match?.[1] === undefined) throw new Error(`docs/notifications.md has no example in ${language}`);
  return match[1];
}

describe('webhook', () => {
  it('an incident - exactly this body, as the manual shows it', async () => {
    const { path, body, headers } = await sent();
    expect(path).toBe('/hook?team=dba');
    expect(JSON.parse(body)).toEqual({
      type: 'aishell.incident.trigger',
      timestamp: '2025-10-27T14:00:23.145Z',
      data: {
        id: '0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11',
        kind: 'incident',
        action: 'trigger',
        severity: 'critical',
        instance: 'production',
        title: "DELETE operation removed 3,214,567 rows from 'users' table",
        facts: massDelete.facts.map(([name, value]) => ({ name, value })),
        commands: massDelete.commands,
        dedupKey: 'aishell/production/incident/i-1',
        incidentId: 'i-1',
        late: false,
      },
    });
    expect(headers['webhook-id']).toBe('0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11');
    const shown = JSON.parse(example('json'));
    expect(Object.keys(shown.data)).toEqual(Object.keys(JSON.parse(body).data));
  });

  it("its signature - the manual's example accepts it, and nothing that was changed or is old", async () => {
    const file = join(directory.path, 'verify.mjs');
    await writeFile(file, example('js'));
    const { isFromAishell } = await import(/* @vite-ignore */ file);
    const { headers, body } = await sent();
    expect(isFromAishell(headers, body, secret)).toBe(true);
    expect(isFromAishell(headers, `${body} `, secret)).toBe(false);
    expect(isFromAishell(headers, body, `whsec_${randomBytes(32).toString('base64')}`)).toBe(false);
    expect(isFromAishell({ ...headers, 'webhook-id': 'other' }, body, secret)).toBe(false);
    const later = String(Number(headers['webhook-timestamp']) + 1);
    expect(isFromAishell({ ...headers, 'webhook-timestamp': later }, body, secret)).toBe(false);
    expect(isFromAishell(headers, body, secret, Date.now() + 301_000)).toBe(false);
    expect(isFromAishell(headers, body, secret, Date.now() - 301_000)).toBe(false);
    expect(isFromAishell({ ...headers, 'webhook-timestamp': undefined }, body, secret)).toBe(false);
  });

  it("the manual's example in Python - accepts the same", async ({ skip }) => {
    if (spawnSync('python3', ['--version']).status !== 0) skip();
    const { headers, body } = await sent();
    const program = `${example('python')}
import json, sys
given = json.load(sys.stdin)
check = lambda body: is_from_aishell(given["headers"], body.encode(), given["secret"])
print(check(given["body"]), check(given["body"] + " "))`;
    const { stdout, stderr } = spawnSync('python3', ['-c', program], {
      input: JSON.stringify({ headers, body, secret }),
      encoding: 'utf8',
    });
    expect(`${stdout}${stderr}`).toBe('True False\n');
  });

  it('another attempt - the same id, signed anew', async () => {
    const first = await sent();
    await new Promise(resolve => setTimeout(resolve, 1100));
    const second = await sent();
    expect(second.headers['webhook-id']).toBe(first.headers['webhook-id']);
    expect(second.headers['webhook-signature']).not.toBe(first.headers['webhook-signature']);
  });

  it('a URL that is kept secret - used, and shown nowhere', async () => {
    const hidden = channel({ url: 'env:URL' });
    expect(hidden.destination).toBe('a URL that is kept secret');
    receiver.answer = reply(404, 'no /hidden here');
    const error = await hidden.deliver(messageOf(massDelete), never).catch(String);
    receiver.answer = reply(204);
    expect(receiver.requests.at(-1)?.path).toBe('/hidden');
    expect(error).toContain('it answered 404, no [redacted] here');
  });

  it.each(['whsec_c2hvcnQ=', 'a long secret that is no base64 at all, without the prefix'])(
    '%s as secret - refused without repeating it',
    async wrong => {
      const error = await channel({ secret: wrong }).deliver(messageOf(massDelete), never).catch(String);
      expect(error).toContain('24 bytes or more');
      expect(error).not.toContain(wrong);
    },
  );
});
