import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { AppError, fileError, toErrorRecord } from '../base/errors.ts';
import { type AgentReply, type AgentRequest, LINE_BYTES, WORKING_EVERY_MS } from './agent-protocol.ts';
import type { AgentStatus } from './agent-status.ts';
import { socketPath } from './socket-path.ts';

export interface AgentAnswers {
  status(): AgentStatus;
  /** Resolves when the segment is durable in the repository; a text says why that cannot be told. */
  archive(name: string, path: string): Promise<true | string>;
  /** Lets go of what is held for an incident; false when nothing is. */
  resolved(incident: string): Promise<boolean>;
}

/**
 * Listens on the agent's socket, for its user alone. The lock of the instance must be held: what lies at the path is what
 * a dead agent left.
 *
 * @throws FILE_FAILED
 */
export async function listen(path: string, answers: AgentAnswers): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(socket, answers);
  });
  rmSync(path, { force: true });
  const usable = socketPath(path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => reject(fileError('listen on', path, error)));
    server.listen(usable.path, resolve);
  });
  // The directory is the user's alone (0700), so nobody gets in before this.
  chmodSync(path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      await close(server, sockets);
      usable[Symbol.dispose]();
    },
  };
}

async function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise<void>(resolve => server.close(() => resolve()));
}

function serve(socket: Socket, answers: AgentAnswers): void {
  let text = '';
  socket.setEncoding('utf8');
  // Who asked may be gone before the answer.
  socket.on('error', () => socket.destroy());
  const send = (reply: AgentReply): void => {
    if (socket.writable) socket.write(`${JSON.stringify(reply)}\n`);
  };
  socket.on('data', (chunk: string) => {
    const lines = (text + chunk).split('\n');
    text = lines.pop() ?? '';
    if (text.length > LINE_BYTES) socket.destroy();
    for (const line of lines) void answer(line, answers, send);
  });
}

async function answer(line: string, answers: AgentAnswers, send: (reply: AgentReply) => void): Promise<void> {
  send({ working: true });
  const timer = setInterval(() => send({ working: true }), WORKING_EVERY_MS);
  try {
    send(await answerTo(parseRequest(line), answers));
  } catch (error) {
    send({ ok: false, error: toErrorRecord(error) });
  } finally {
    clearInterval(timer);
  }
}

async function answerTo(request: AgentRequest, answers: AgentAnswers): Promise<AgentReply> {
  if (request.op === 'status') return { ok: true, status: answers.status() };
  if (request.op === 'resolved') return { ok: true, released: await answers.resolved(request.incident) };
  const archived = await answers.archive(request.name, request.path);
  return archived === true ? { ok: true, archived } : { ok: true, declined: archived };
}

function parseRequest(line: string): AgentRequest {
  let request: unknown = null;
  try {
    request = JSON.parse(line);
  } catch {
    // Refused below.
  }
  if (typeof request === 'object' && request !== null && 'op' in request) {
    if (request.op === 'status') return { op: 'status' };
    const { name, path, incident } = request as Readonly<Record<string, unknown>>;
    if (request.op === 'resolved' && typeof incident === 'string') return { op: 'resolved', incident };
    if (request.op === 'archive' && typeof name === 'string' && typeof path === 'string')
      return { op: 'archive', name, path };
  }
  throw new AppError('UNSUPPORTED', 'the agent does not know this request');
}
