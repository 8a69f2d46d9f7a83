import { connect, type Socket } from 'node:net';
import type { AgentReply, AgentRequest } from './agent-protocol.ts';
import { type SocketPath, socketPath } from './socket-path.ts';

/** An agent that has not answered so long is not waited for. It answers every second while it works. */
const SILENCE_MS = 3000;
const CONNECT_MS = 500;

/** The final answer of the agent at this socket; null when there is none, or it does not answer. */
export async function askAgent(path: string, request: AgentRequest): Promise<AgentReply | null> {
  let usable: SocketPath;
  try {
    usable = socketPath(path);
  } catch {
    // Where there is no directory, or no such path, there is no agent.
    return null;
  }
  using reached = usable;
  return await ask(connect(reached.path), request);
}

function ask(socket: Socket, request: AgentRequest): Promise<AgentReply | null> {
  return new Promise(resolve => {
    let text = '';
    let silence = setTimeout(() => end(null), CONNECT_MS);
    const end = (reply: AgentReply | null): void => {
      clearTimeout(silence);
      socket.destroy();
      resolve(reply);
    };
    socket.setEncoding('utf8');
    socket.on('error', () => end(null));
    socket.on('close', () => end(null));
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: string) => {
      clearTimeout(silence);
      silence = setTimeout(() => end(null), SILENCE_MS);
      const lines = (text + chunk).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const reply = parseReply(line);
        if (reply === null) return end(null);
        if ('ok' in reply) return end(reply);
      }
    });
  });
}

function parseReply(line: string): AgentReply | null {
  try {
    const reply: unknown = JSON.parse(line);
    return typeof reply === 'object' && reply !== null ? (reply as AgentReply) : null;
  } catch {
    return null;
  }
}
