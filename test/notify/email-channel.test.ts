import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EmailSettings } from '../../src/notify/channel.ts';
import { openChannel } from '../../src/notify/open-channel.ts';
import type { TemporaryDirectory } from '../support/temp.ts';
import { directoryWithCa, everything, massDelete, messageOf, never } from './sample-alerts.ts';
import { testCertificate } from './test-certificate.ts';

interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  readonly isEncrypted: boolean;
  readonly user: string | undefined;
  readonly text: string;
}

interface MailServer extends AsyncDisposable {
  readonly port: number;
  readonly mails: readonly Mail[];
}

const user = 'aishell';
const password = 'hunter2-very-secret';

/** A real mail server: STARTTLS, logins, and what the tests make it refuse. */
async function startMailServer(options: SMTPServerOptions = {}): Promise<MailServer> {
  const mails: Mail[] = [];
  const server = new SMTPServer({
    ...testCertificate,
    logger: false,
    authOptional: true,
    onAuth(auth, _session, done) {
      if (auth.username === user && auth.password === password) done(null, { user });
      else done(Object.assign(new Error(`535 ${auth.password} is wrong`), { responseCode: 535 }));
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          isEncrypted: session.secure,
          user: session.user as string | undefined,
          text: Buffer.concat(chunks).toString('utf8'),
        });
        done();
      });
    },
    ...options,
  });
  // A client that refuses the certificate is part of a test.
  server.on('error', () => undefined);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.server.address() as AddressInfo).port,
    mails,
    [Symbol.asyncDispose]: () => new Promise(resolve => server.close(() => resolve())),
  };
}

let directory: TemporaryDirectory & { readonly ca: string };
beforeAll(async () => {
  directory = await directoryWithCa();
});
afterAll(() => directory[Symbol.asyncDispose]());

function channel(
  port: number,
  settings: Partial<EmailSettings> = {},
  env: NodeJS.ProcessEnv = { PASSWORD: password },
) {
  return openChannel(
    {
      name: 'mail',
      type: 'email',
      hears: everything,
      host: 'localhost',
      port,
      security: 'starttls',
      allowPlaintext: false,
      ca: directory.ca,
      user,
      password: 'env:PASSWORD',
      from: 'aishell@example.com',
      to: ['dba@example.com', 'devops@example.com'],
      ...settings,
    },
    { env },
  );
}

describe('email', () => {
  it('STARTTLS and a login - exactly this mail, encrypted', async () => {
    await using server = await startMailServer({ authOptional: false });
    await expect(channel(server.port).deliver(messageOf(massDelete), never)).resolves.toEqual({
      problem: null,
    });
    const [mail] = server.mails;
    expect(mail).toMatchObject({
      from: 'aishell@example.com',
      to: ['dba@example.com', 'devops@example.com'],
      isEncrypted: true,
      user,
    });
    const [head = '', ...paragraphs] = (mail?.text ?? '').replaceAll('\r\n', '\n').split('\n\n');
    const headers = head.replaceAll(/\n\s+/g, ' ').split('\n');
    expect(headers).toEqual(
      expect.arrayContaining([
        'From: aishell@example.com',
        'To: dba@example.com, devops@example.com',
        "Subject: [critical] production: DELETE operation removed 3,214,567 rows from 'users' table",
        'Message-ID: <0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11@aishell.invalid>',
        'Auto-Submitted: auto-generated',
        'X-Priority: 1 (Highest)',
        'Content-Type: text/plain; charset=utf-8',
      ]),
    );
    expect(headers.find(line => line.startsWith('References: '))).toMatch(
      /^References: <[0-9a-f]{32}@aishell\.invalid>$/,
    );
    expect(paragraphs.join('\n\n')).toBe(`DELETE operation removed 3,214,567 rows from 'users' table

Instance: production
Severity: critical
Raised: 2025-10-27 14:00:23 UTC
Incident: i-1
Detected: 2025-10-27 14:00:23 UTC
Data loss: 100% of table
Query: DELETE FROM users WHERE 1=1 AND a <> b & c

Restore to just before:
  aishell backup restore --point-in-time "2025-10-27 13:59:59"

--${' '}
aishell, incident 0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11
`);
  });

  it('TLS from the first byte - delivered', async () => {
    await using server = await startMailServer({ secure: true });
    await channel(server.port, { security: 'tls' }).deliver(messageOf(massDelete), never);
    expect(server.mails[0]).toMatchObject({ isEncrypted: true, user });
  });

  it('a server that offers no STARTTLS - nothing is said, the password least of all', async () => {
    await using server = await startMailServer({ hideSTARTTLS: true, disabledCommands: ['STARTTLS'] });
    await expect(channel(server.port).deliver(messageOf(massDelete), never)).rejects.toMatchObject({
      code: 'CHANNEL_FAILED',
    });
    expect(server.mails).toEqual([]);
  });

  it('a certificate that nobody vouches for - refused', async () => {
    await using server = await startMailServer();
    await expect(channel(server.port, { ca: null }).deliver(messageOf(massDelete), never)).rejects.toThrow(
      /self-signed certificate/,
    );
    expect(server.mails).toEqual([]);
  });

  it('a wrong password - lasting, and in no error, though the server repeats it', async () => {
    await using server = await startMailServer();
    const wrong = 'a-wrong-secret';
    const error: unknown = await channel(server.port, {}, { PASSWORD: wrong })
      .deliver(messageOf(massDelete), never)
      .catch(thrown => thrown);
    expect(error).toMatchObject({ code: 'CHANNEL_FAILED', isLasting: true });
    expect(String(error)).toContain('[redacted]');
    expect(JSON.stringify(error) + String(error) + (error as Error).stack).not.toContain(wrong);
  });

  it('one recipient refused - delivered to the other, and said; all refused for now - tried again', async () => {
    const refuse = (isRefused: (address: string) => boolean, responseCode: number): SMTPServerOptions => ({
      onRcptTo: ({ address }, _session, done) =>
        done(isRefused(address) ? Object.assign(new Error('no such mailbox'), { responseCode }) : null),
    });
    await using one = await startMailServer(refuse(address => address.startsWith('devops'), 550));
    await expect(channel(one.port).deliver(messageOf(massDelete), never)).resolves.toEqual({
      problem: 'localhost did not take it for devops@example.com',
    });
    expect(one.mails[0]?.to).toEqual(['dba@example.com']);
    await using later = await startMailServer(refuse(() => true, 450));
    await expect(channel(later.port).deliver(messageOf(massDelete), never)).rejects.toMatchObject({
      isLasting: false,
    });
    await using never2 = await startMailServer(refuse(() => true, 550));
    await expect(channel(never2.port).deliver(messageOf(massDelete), never)).rejects.toMatchObject({
      isLasting: true,
    });
  });

  it('line breaks and headers in a title - stay in the subject', async () => {
    await using server = await startMailServer();
    const title = 'lost\r\nBcc: thief@example.com\r\n\r\nand gone';
    await channel(server.port).deliver(messageOf({ ...massDelete, title }), never);
    expect(server.mails[0]?.to).toEqual(['dba@example.com', 'devops@example.com']);
    expect(server.mails[0]?.text.split('\r\n\r\n')[0]).not.toMatch(/^Bcc:/m);
  });

  it('unencrypted - to this machine, elsewhere only when allowed, and never a password', async () => {
    await using server = await startMailServer({ hideSTARTTLS: true });
    const plain = { security: 'none', user: null, password: null } as const;
    await channel(server.port, plain).deliver(messageOf(massDelete), never);
    expect(server.mails[0]).toMatchObject({ isEncrypted: false });
    const elsewhere = { ...plain, host: 'mail.example.com' };
    const deliver = (settings: Partial<EmailSettings>): Promise<unknown> =>
      channel(server.port, settings).deliver(messageOf(massDelete), never);
    await expect(deliver(elsewhere)).rejects.toMatchObject({ code: 'ADDRESS_REFUSED', isLasting: true });
    await expect(
      deliver({ ...elsewhere, allowPlaintext: true, user, password: 'env:PASSWORD' }),
    ).rejects.toThrow('unable to send a password');
  });

  it('a server that says nothing - given up when asked to', async () => {
    const { createServer } = await import('node:net');
    const silent = createServer(() => undefined);
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const work = channel(port).deliver(messageOf(massDelete), AbortSignal.timeout(200));
    await expect(work).rejects.toMatchObject({ name: 'TimeoutError' });
    silent.close();
  });
});
