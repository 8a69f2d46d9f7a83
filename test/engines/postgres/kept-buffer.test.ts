import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { KeptBuffer } from '../../../src/engines/postgres/kept-buffer.ts';

async function connected(): Promise<
  { received: KeptBuffer; socket: Socket; peer: Socket } & AsyncDisposable
> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const received = new KeptBuffer();
  const socket = received.open();
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const isConnected = once(socket, 'connect');
  socket.connect((server.address() as { port: number }).port, '127.0.0.1');
  const [peer] = await accepted;
  await isConnected;
  return {
    ...{ received, socket, peer },
    async [Symbol.asyncDispose]() {
      socket.destroy();
      peer.destroy();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

test('not lent - what listeners keep stays as it was; lent - it is the same memory each time', async () => {
  await using pair = await connected();
  const { received, socket, peer } = pair;
  const read = async (text: string): Promise<Buffer> => {
    const data = once(socket, 'data') as Promise<[Buffer]>;
    peer.write(text);
    const [bytes] = await data;
    expect(bytes.toString()).toBe(text);
    return bytes;
  };
  const [first, second] = [await read('first'), await read('other')];
  expect([first.toString(), second.toString()]).toEqual(['first', 'other']);
  received.isLent = true;
  const lent = await read('views');
  expect((await read('again')).buffer).toBe(lent.buffer);
  expect(lent.toString()).toBe('again');
});

test('paused - nothing comes, and nothing is lost; the other side ends - so does this one', async () => {
  await using pair = await connected();
  const { socket, peer } = pair;
  let text = '';
  socket.on('data', bytes => {
    text += bytes;
  });
  peer.write('begin');
  while (text !== 'begin') await once(socket, 'data');
  socket.pause();
  const sent = 'x'.repeat(600_000);
  peer.write(sent);
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(text).toBe('begin');
  socket.resume();
  peer.end();
  await once(socket, 'end');
  expect(text).toBe(`begin${sent}`);
});
