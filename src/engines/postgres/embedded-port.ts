import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { AppError, systemCode } from '../../base/errors.ts';

/** A TCP port on 127.0.0.1 that no other run takes until it is released, or its process ends. */
export interface ReservedPort {
  readonly port: number;
  release(): void;
}

/**
 * Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that a port stays free
 * while its server is stopped for a restore.
 */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;

/**
 * Chooses a free port. Two runs side by side would otherwise meet: one stops its server for a moment, the other finds
 * that port free. So each port is claimed by an abstract socket of that name, which the kernel drops with its process.
 * Elsewhere than on Linux there are no such sockets, and only whether the port is free now is tested.
 *
 * @source unix(7), "Abstract sockets"
 */
export async function reservePort(): Promise<ReservedPort> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(FIRST_PORT, LAST_PORT);
    const claim = process.platform === 'linux' ? await listen({ path: `\0aishell-port-${port}` }) : null;
    if (claim === null && process.platform === 'linux') continue;
    const probe = await listen({ host: '127.0.0.1', port });
    if (probe === null) {
      claim?.close();
      continue;
    }
    await new Promise(resolve => probe.close(resolve));
    return { port, release: () => void claim?.close() };
  }
  throw new AppError('SERVICE_FAILED', `unable to find a free port between ${FIRST_PORT} and ${LAST_PORT}`);
}

/** Listens without keeping the process alive; null when the address is taken. */
async function listen(address: { path: string } | { host: string; port: number }): Promise<Server | null> {
  const server = createServer();
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', error => {
      const taken = ['EADDRINUSE', 'EACCES'].includes(systemCode(error));
      if (taken) resolve(null);
      else reject(error);
    });
    server.listen(address, () => resolve(server));
  });
}
