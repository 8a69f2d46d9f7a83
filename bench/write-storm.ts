import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

// Run as a process of its own, so that the applications take no time from what is measured:
// node write-storm.ts <port> <writers>. They insert a row every 5 ms each, and connect again for ever.
const [port = 0, writers = 0] = process.argv.slice(2).map(Number);

async function write(number: number): Promise<never> {
  while (true) {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'app', database: 'postgres' });
    client.on('error', () => undefined);
    try {
      await client.connect();
      while (true) {
        await client.query('insert into storm (writer) values ($1)', [number]);
        await sleep(5);
      }
    } catch {
      await sleep(20);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

for (let number = 0; number < writers; number += 1) void write(number);
