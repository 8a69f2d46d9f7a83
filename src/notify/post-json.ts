import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP, isIPv6, type LookupFunction } from 'node:net';
import { fileError, messageOf, systemCode } from '../base/errors.ts';
import { DeliveryError, type ResolveHost, type TargetRules } from './channel.ts';
import { type CheckedTarget, checkTarget } from './check-target.ts';
import { oneLine } from './notification.ts';

/** An answer that says yes or no needs no more. */
const LARGEST_ANSWER_BYTES = 64 * 1024;
const LONGEST_RETRY_AFTER_MS = 3_600_000;

export interface PostReply {
  readonly status: number;
  readonly retryAfterMs: number | null;
  /** At most 64 KiB of it. */
  readonly text: string;
}

/**
 * Posts JSON to a URL and gives the answer, whatever its status. Redirects are not followed, no proxy is used, and the
 * connection goes to an address that was checked, so that a name whose address changes meanwhile leads nowhere else.
 * @throws DeliveryError the address is refused, or there is no answer; FILE_FAILED the file of authorities
 */
export async function postJson(
  url: string,
  request: { readonly body: string; readonly headers?: Readonly<Record<string, string>> },
  options: TargetRules & { readonly signal: AbortSignal; readonly resolveHost?: ResolveHost | undefined },
): Promise<PostReply> {
  const { signal, resolveHost } = options;
  const target = await checkTarget(url, options, {
    signal,
    ...(resolveHost === undefined ? {} : { resolveHost }),
  });
  const ca = options.ca === null ? undefined : await readAuthorities(options.ca);
  try {
    return await exchange(target, request, { signal, ca });
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof DeliveryError) throw error;
    throw new DeliveryError(
      'CHANNEL_FAILED',
      `unable to reach '${target.url.host}': ${oneLine(messageOf(error) || systemCode(error), 200)}`,
      { isLasting: isCertificateError(error) },
    );
  }
}

/** What a status that is no success means. @param answer what the other side says about it, without secrets */
export function refusal(host: string, reply: PostReply, answer: string): DeliveryError {
  const { status, retryAfterMs } = reply;
  const isRedirect = status >= 300 && status < 400;
  const said = isRedirect ? 'redirects are not followed' : oneLine(answer, 200);
  return new DeliveryError(
    'CHANNEL_FAILED',
    `unable to deliver to '${host}': it answered ${status}${said === '' ? '' : `, ${said}`}`,
    { isLasting: status < 500 && ![408, 425, 429].includes(status), retryAfterMs },
  );
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw fileError('read', path, error);
  }
}

async function exchange(
  { url, host, addresses }: CheckedTarget,
  request: { readonly body: string; readonly headers?: Readonly<Record<string, string>> },
  { signal, ca }: { readonly signal: AbortSignal; readonly ca: string | undefined },
): Promise<PostReply> {
  const isTls = url.protocol === 'https:';
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const sent = (isTls ? httpsRequest : httpRequest)({
    method: 'POST',
    host,
    port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port),
    path: `${url.pathname}${url.search}`,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(request.body),
      'user-agent': 'aishell',
      ...request.headers,
    },
    lookup: lookupAmong(addresses),
    // An agent of its own: nothing of the environment (proxies) and no connection that another check opened.
    agent: isTls ? new HttpsAgent({ keepAlive: false }) : new HttpAgent({ keepAlive: false }),
    signal,
    ...(isTls
      ? {
          minVersion: 'TLSv1.2' as const,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...(ca === undefined ? {} : { ca }),
        }
      : {}),
  });
  sent.once('response', resolve);
  // Stays: an error after the answer has begun must not end the process.
  sent.on('error', reject);
  sent.end(request.body);
  try {
    const response = await promise;
    return {
      status: response.statusCode ?? 0,
      retryAfterMs: retryAfterOf(response.headers['retry-after']),
      text: await readAnswer(response),
    };
  } finally {
    sent.destroy();
  }
}

/** A lookup that knows nothing but the addresses that were checked. */
function lookupAmong(addresses: readonly string[]): LookupFunction {
  const found = addresses.map(address => ({ address, family: isIPv6(address) ? 6 : 4 }));
  return (_host, options, callback) => {
    const [first = { address: '', family: 4 }] = found;
    if (options.all === true) callback(null, found);
    else callback(null, first.address, first.family);
  };
}

async function readAnswer(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= LARGEST_ANSWER_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, LARGEST_ANSWER_BYTES).toString('utf8');
}

/** @source RFC 9110, 10.2.3: seconds, or a date */
function retryAfterOf(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = /^\d{1,9}$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), LONGEST_RETRY_AFTER_MS) : null;
}

/** The other side is not who it should be, and will not be in a second either. */
function isCertificateError(error: unknown): boolean {
  return /^(CERT_|ERR_TLS_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/.test(systemCode(error));
}
