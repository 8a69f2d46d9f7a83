import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { abortable } from '../base/abort.ts';
import { messageOf, systemCode } from '../base/errors.ts';
import { classifyAddress } from './address-rules.ts';
import { DeliveryError, type ResolveHost, type TargetRules } from './channel.ts';

/** A URL that may be sent to, with the addresses that were checked: the connection goes to one of them and no other. */
export interface CheckedTarget {
  readonly url: URL;
  /** Without the brackets of an IPv6 address. */
  readonly host: string;
  readonly addresses: readonly string[];
}

/**
 * Checks that a URL may be sent to, and finds its addresses. The URL itself never stands in an error: it may be a secret.
 * @throws DeliveryError ADDRESS_REFUSED, or CHANNEL_FAILED when the name has no address
 */
export async function checkTarget(
  text: string,
  rules: Pick<TargetRules, 'allowPrivate' | 'allowHttp'>,
  {
    signal,
    resolveHost = systemResolver,
  }: { readonly signal: AbortSignal; readonly resolveHost?: ResolveHost },
): Promise<CheckedTarget> {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw refused('unable to send to an address that is no https:// URL');
  if (url.username !== '' || url.password !== '')
    throw refused(`unable to send to '${url.host}': its URL carries a user name or a password`);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const addresses = isIP(host) === 0 ? await addressesOf(host, { signal, resolveHost }) : [host];
  const classes = addresses.map(address => ({ address, found: classifyAddress(address) }));
  const isLoopback = classes.every(({ found }) => found === 'loopback');
  if (url.protocol === 'http:' && !isLoopback && !rules.allowHttp) {
    throw refused(`unable to send to '${url.host}' unencrypted`, 'Give an https:// URL.');
  }
  for (const { address, found } of classes) {
    if (found === 'metadata')
      throw refused(
        `unable to send to '${host}': ${address} is for the machine's own network or cloud metadata`,
      );
    if (found !== 'public' && !rules.allowPrivate) {
      throw refused(
        `unable to send to '${host}': ${address} is not an address of the Internet`,
        'If that is meant, set `allow_private: true` for this channel.',
      );
    }
  }
  return { url, host, addresses };
}

function refused(message: string, hint?: string): DeliveryError {
  return new DeliveryError('ADDRESS_REFUSED', message, {
    isLasting: true,
    ...(hint === undefined ? {} : { hint }),
  });
}

async function addressesOf(
  host: string,
  { signal, resolveHost }: { readonly signal: AbortSignal; readonly resolveHost: ResolveHost },
): Promise<readonly string[]> {
  const found = await abortable(resolveHost(host), signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw unresolved(host, systemCode(error) || messageOf(error));
  });
  if (found.length === 0) throw unresolved(host, 'it has no address');
  return found;
}

function unresolved(host: string, why: string): DeliveryError {
  return new DeliveryError('CHANNEL_FAILED', `unable to find the address of '${host}': ${why}`, {
    isLasting: false,
    hint: 'Is the network up, and the name right?',
  });
}

async function systemResolver(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}
