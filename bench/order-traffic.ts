import pg from 'pg';

// Run as a process of its own: node order-traffic.ts <port> <clients>. Each client commits one small transaction after the
// other, as pgbench's do; ten times a second the process says how many there were so far.
const [port = 0, clients = 0] = process.argv.slice(2).map(Number);
const ACCOUNTS = 20_000;
let committed = 0;

async function trade(number: number): Promise<never> {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  client.on('error', () => process.exit());
  await client.connect();
  for (let sequence = 0; ; sequence += 1) {
    const account = 1 + Math.floor(Math.random() * ACCOUNTS);
    await client.query('begin');
    await client.query('update accounts set balance = balance + $2 where id = $1', [account, sequence % 100]);
    await client.query('insert into orders (client, account) values ($1, $2)', [number, account]);
    await client.query('commit');
    committed += 1;
  }
}

setInterval(() => process.stdout.write(`${committed}\n`), 100);
await Promise.all(Array.from({ length: clients }, (_, number) => trade(number)));
