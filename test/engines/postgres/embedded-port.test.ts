import { execFile } from 'node:child_process';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { reservePort } from '../../../src/engines/postgres/embedded-port.ts';

test('many reservations at once - every port is another one, and can be listened on', async () => {
  const reserved = await Promise.all(Array.from({ length: 50 }, reservePort));
  try {
    expect(new Set(reserved.map(({ port }) => port)).size).toBe(50);
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: '127.0.0.1', port: reserved[0]?.port }, resolve);
    });
    await new Promise(resolve => server.close(resolve));
  } finally {
    for (const { release } of reserved) release();
  }
});

test('a reserved port, free for others to bind - its name stays taken for other processes until it is released', async () => {
  const { port, release } = await reservePort();
  const tries = `
    import { createServer } from 'node:net';
    const claim = createServer();
    claim.once('error', () => console.log('claimed'));
    claim.listen({ path: '\\0aishell-port-${port}' }, () => { console.log('free'); claim.close(); });`;
  const ask = async (): Promise<string> =>
    (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', tries])).stdout.trim();
  expect(await ask()).toBe('claimed');
  release();
  await expect.poll(ask).toBe('free');
});
