import { createServer as createHttpServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { testCertificate } from './test-certificate.ts';

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export type Answer = (request: ReceivedRequest, response: ServerResponse) => void;

export interface AlertReceiver extends AsyncDisposable {
  /** Without a slash at its end. */
  readonly url: string;
  readonly port: number;
  readonly requests: readonly ReceivedRequest[];
  /** Resolves when so many requests have come. */
  received(count: number): Promise<void>;
  answer: Answer;
}

/** A real server on a free port that keeps what it gets and answers as it is told. */
export async function startReceiver(
  answer: Answer,
  { isTls = true }: { readonly isTls?: boolean } = {},
): Promise<AlertReceiver> {
  const requests: ReceivedRequest[] = [];
  const waiting: { readonly count: number; resolve(): void }[] = [];
  const server = isTls ? createHttpsServer(testCertificate) : createHttpServer();
  const receiver: Pick<AlertReceiver, 'answer'> = { answer };
  server.on('request', (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const received = { method, path: url, headers, body: Buffer.concat(chunks).toString('utf8') };
      requests.push(received);
      for (const each of waiting) if (requests.length >= each.count) each.resolve();
      receiver.answer(received, response);
    });
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  server.on('tlsClientError', () => undefined);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(receiver, {
    url: `${isTls ? 'https' : 'http'}://127.0.0.1:${port}`,
    port,
    requests,
    received(count: number): Promise<void> {
      if (requests.length >= count) return Promise.resolve();
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.push({ count, resolve });
      return promise;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  });
}

/** Answers with a status, a text and headers. */
export function reply(status: number, text = '', headers: Readonly<Record<string, string>> = {}): Answer {
  return (_request, response) => response.writeHead(status, headers).end(text);
}

/** The given answers one after the other, the last one again and again. */
export function inTurn(...answers: readonly Answer[]): Answer {
  let next = 0;
  return (request, response) => {
    answers[Math.min(next, answers.length - 1)]?.(request, response);
    next += 1;
  };
}
