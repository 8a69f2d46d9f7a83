import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { classifyAddress } from '../../src/notify/address-rules.ts';
import type { DeliveryError } from '../../src/notify/channel.ts';
import { checkTarget } from '../../src/notify/check-target.ts';
import { postJson } from '../../src/notify/post-json.ts';
import type { TemporaryDirectory } from '../support/temp.ts';
import { type AlertReceiver, reply, startReceiver } from './alert-receiver.ts';
import { directoryWithCa, never } from './sample-alerts.ts';

describe('classifyAddress', () => {
  it.each([
    ['93.184.216.34', 'public'],
    ['2606:4700:4700::1111', 'public'],
    ['::ffff:93.184.216.34', 'public'],
    ['64:ff9b::5db8:d822', 'public'],
    ['127.0.0.1', 'loopback'],
    ['127.255.1.2', 'loopback'],
    ['::1', 'loopback'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:7f00:1', 'loopback'],
    ['169.254.169.254', 'metadata'],
    ['::ffff:169.254.169.254', 'metadata'],
    ['64:ff9b::a9fe:a9fe', 'metadata'],
    ['fd00:ec2::254', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['fe80::1%eth0', 'metadata'],
    ['168.63.129.16', 'metadata'],
    ['100.100.100.200', 'metadata'],
    ['10.1.2.3', 'private'],
    ['172.31.255.255', 'private'],
    ['172.32.0.1', 'public'],
    ['192.168.0.1', 'private'],
    ['100.64.0.1', 'private'],
    ['0.0.0.0', 'private'],
    ['::', 'private'],
    ['::10.0.0.1', 'private'],
    ['64:ff9b::a00:1', 'private'],
    ['fc00::1', 'private'],
    ['fd12:3456::1', 'private'],
    ['2002:a00:1::', 'private'],
    ['2001:db8::1', 'private'],
    ['ff02::1', 'private'],
    ['224.0.0.1', 'private'],
    ['255.255.255.255', 'private'],
    ['not an address', 'private'],
  ])('%s - %s', (address, expected) => {
    expect(classifyAddress(address)).toBe(expected);
  });
});

describe('checkTarget', () => {
  const strict = { allowPrivate: false, allowHttp: false };
  const loose = { allowPrivate: true, allowHttp: true };
  const resolvesTo = (...addresses: string[]) => ({ signal: never, resolveHost: async () => addresses });
  const code = async (work: Promise<unknown>): Promise<string> =>
    await work.then(
      () => 'fine',
      (error: DeliveryError) => `${error.code} ${error.isLasting}`,
    );

  it.each([
    'https://127.0.0.1/x',
    'https://[::1]/x',
    'https://2130706433/x',
    'https://0x7f.1/x',
    'https://017700000001/x',
    'https://10.0.0.1/x',
    'https://[::ffff:10.0.0.1]/x',
    'http://93.184.216.34/x',
    'ftp://93.184.216.34/x',
    'file:///etc/passwd',
    'https://user:word@93.184.216.34/x',
    'nonsense',
  ])('%s - refused', async url => {
    expect(await code(checkTarget(url, strict, resolvesTo()))).toBe('ADDRESS_REFUSED true');
  });

  it('a name that leads to a private address, or to one beside a public one - refused', async () => {
    for (const addresses of [['10.0.0.5'], ['93.184.216.34', '192.168.1.1'], ['::1']]) {
      const work = checkTarget('https://hooks.example.com/', strict, resolvesTo(...addresses));
      expect(await code(work)).toBe('ADDRESS_REFUSED true');
    }
    expect(await code(checkTarget('https://localhost/', strict, { signal: never }))).toBe(
      'ADDRESS_REFUSED true',
    );
  });

  it('the metadata service - refused, whatever is allowed', async () => {
    for (const url of [
      'http://169.254.169.254/latest/meta-data',
      'https://[fd00:ec2::254]/',
      'http://2852039166/',
    ])
      expect(await code(checkTarget(url, loose, resolvesTo()))).toBe('ADDRESS_REFUSED true');
    const named = checkTarget('http://metadata.google.internal/', loose, resolvesTo('169.254.169.254'));
    expect(await code(named)).toBe('ADDRESS_REFUSED true');
  });

  it('what is allowed - its addresses', async () => {
    await expect(
      checkTarget('https://a.example.com/', strict, resolvesTo('93.184.216.34')),
    ).resolves.toMatchObject({ host: 'a.example.com', addresses: ['93.184.216.34'] });
    const isPrivate = { allowPrivate: true, allowHttp: false };
    expect(await code(checkTarget('https://10.0.0.1/', isPrivate, resolvesTo()))).toBe('fine');
    expect(await code(checkTarget('http://127.0.0.1/', isPrivate, resolvesTo()))).toBe('fine');
    expect(await code(checkTarget('http://10.0.0.1/', isPrivate, resolvesTo()))).toBe('ADDRESS_REFUSED true');
    expect(await code(checkTarget('http://10.0.0.1/', loose, resolvesTo()))).toBe('fine');
  });

  it('a name without an address - may have one later', async () => {
    expect(await code(checkTarget('https://a.example.com/', strict, resolvesTo()))).toBe(
      'CHANNEL_FAILED false',
    );
    const failing = { signal: never, resolveHost: async () => Promise.reject(new Error('EAI_AGAIN')) };
    expect(await code(checkTarget('https://a.example.com/', strict, failing))).toBe('CHANNEL_FAILED false');
  });
});

describe('postJson', () => {
  let receiver: AlertReceiver;
  let directory: TemporaryDirectory & { readonly ca: string };
  beforeAll(async () => {
    receiver = await startReceiver(reply(200, 'ok'));
    directory = await directoryWithCa();
  });
  afterAll(async () => {
    await receiver[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  const rules = () => ({ allowPrivate: true, allowHttp: false, ca: directory.ca, signal: never });

  it('a name whose address changes - asked once, and the connection goes to what was checked', async () => {
    const asked: string[] = [];
    const resolveHost = async (host: string): Promise<string[]> => {
      asked.push(host);
      return asked.length === 1 ? ['127.0.0.1'] : ['169.254.169.254'];
    };
    const url = `https://alerts.example.com:${receiver.port}/x`;
    const answer = await postJson(url, { body: '{}' }, { ...rules(), resolveHost });
    expect(answer.status).toBe(200);
    expect(asked).toEqual(['alerts.example.com']);
    // The certificate is checked for the name, not for the address.
    const other = postJson(
      `https://other.example.com:${receiver.port}/x`,
      { body: '{}' },
      { ...rules(), resolveHost: async () => ['127.0.0.1'] },
    );
    await expect(other).rejects.toMatchObject({ code: 'CHANNEL_FAILED', isLasting: true });
  });

  it('a redirect to the metadata service - not followed', async () => {
    receiver.answer = reply(307, '', { location: 'http://169.254.169.254/latest/meta-data' });
    const answer = await postJson(`${receiver.url}/x`, { body: '{}' }, rules());
    expect(answer.status).toBe(307);
    expect(receiver.requests.filter(({ path }) => path === '/x').length).toBeGreaterThan(0);
    receiver.answer = reply(200, 'ok');
  });

  it('a certificate that nobody vouches for - refused, also the next time', async () => {
    const work = postJson(`${receiver.url}/x`, { body: '{}' }, { ...rules(), ca: null });
    await expect(work).rejects.toMatchObject({ code: 'CHANNEL_FAILED', isLasting: true });
  });

  it('nobody listens - may be tried again', async () => {
    const free = await startReceiver(reply(200));
    await free[Symbol.asyncDispose]();
    await expect(postJson(`${free.url}/`, { body: '{}' }, rules())).rejects.toMatchObject({
      isLasting: false,
    });
  });
});
