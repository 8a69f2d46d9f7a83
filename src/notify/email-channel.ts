import { readFile } from 'node:fs/promises';
import { fileError, messageOf, systemCode } from '../base/errors.ts';
import { resolveSecretRef } from '../base/secret.ts';
import {
  type Channel,
  type ChannelEnvironment,
  DeliveryError,
  type EmailSettings,
  redact,
} from './channel.ts';
import { emailMessage } from './email-message.ts';
import { oneLine } from './notification.ts';

const STEP_TIMEOUT_MS = 10_000;

/** Mail over SMTP. Without TLS only to this machine, or where that is allowed in so many words, and never with a password. */
export function openEmailChannel(settings: EmailSettings, { env }: ChannelEnvironment): Channel {
  return {
    name: settings.name,
    type: 'email',
    destination: `${settings.to.join(', ')} by ${settings.host}:${settings.port}`,
    hears: settings.hears,
    async deliver(message, signal) {
      checkPlaintext(settings);
      const { user } = settings;
      const password =
        settings.password === null
          ? null
          : (await resolveSecretRef(settings.password, { env, signal })).reveal();
      const ca = settings.ca === null ? null : await readAuthorities(settings.ca);
      // Loaded only here: no command that sends no mail waits for it.
      const { createTransport } = await import('nodemailer');
      const transport = createTransport({
        host: settings.host,
        port: settings.port,
        secure: settings.security === 'tls',
        requireTLS: settings.security === 'starttls',
        ignoreTLS: settings.security === 'none',
        ...(user === null || password === null ? {} : { auth: { user, pass: password } }),
        tls: { minVersion: 'TLSv1.2', ...(ca === null ? {} : { ca }) },
        connectionTimeout: STEP_TIMEOUT_MS,
        greetingTimeout: STEP_TIMEOUT_MS,
        socketTimeout: STEP_TIMEOUT_MS,
        // What a notification says is text and nothing else.
        disableFileAccess: true,
        disableUrlAccess: true,
      });
      try {
        const { rejected } = await transport.sendMail({
          from: settings.from,
          to: [...settings.to],
          ...emailMessage(message),
          signal,
        });
        if (rejected.length === 0) return { problem: null };
        return { problem: `${settings.host} did not take it for ${rejected.map(String).join(', ')}` };
      } catch (error) {
        signal.throwIfAborted();
        throw failure(settings, error, user === null || password === null ? [] : spellings(user, password));
      } finally {
        transport.close();
      }
    },
  };
}

/** @throws DeliveryError */
function checkPlaintext({ security, host, port, allowPlaintext, password }: EmailSettings): void {
  if (security !== 'none' || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host)) return;
  const refused = (message: string, hint: string): DeliveryError =>
    new DeliveryError('ADDRESS_REFUSED', message, { isLasting: true, hint });
  if (!allowPlaintext) {
    throw refused(
      `unable to send mail to '${host}:${port}' unencrypted`,
      'Set `security: starttls` or `security: tls`; or `allow_plaintext: true`, if everybody on the way may read it.',
    );
  }
  if (password !== null)
    throw refused(`unable to send a password to '${host}:${port}' unencrypted`, 'Use TLS, or no password.');
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw fileError('read', path, error);
  }
}

/** How a password goes over the wire; a server that repeats a command in its answer repeats it so. @source RFC 4616, RFC 4954 */
function spellings(user: string, password: string): readonly string[] {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return [password, base64(password), base64(`\0${user}\0${password}`)];
}

/** The server's words without the password, and whether they are its last. @source RFC 5321, 4.2.1: 4yz may be tried again, 5yz not */
function failure({ host, port }: EmailSettings, error: unknown, secrets: readonly string[]): DeliveryError {
  const status =
    typeof error === 'object' && error !== null && 'responseCode' in error ? Number(error.responseCode) : 0;
  const code = systemCode(error);
  const said = oneLine(redact(messageOf(error), secrets), 250);
  return new DeliveryError('CHANNEL_FAILED', `unable to send mail by '${host}:${port}': ${said}`, {
    isLasting: status === 0 ? code === 'EAUTH' : status >= 500,
    ...(code === 'EAUTH' ? { hint: 'Are user and password right, and may this user send mail?' } : {}),
  });
}
