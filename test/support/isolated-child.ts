import { startIsolatedServer } from '../../src/engines/postgres/isolated-server.ts';

/** A program that starts an isolated server, says so, and then does nothing until it is ended. */
const server = await startIsolatedServer(JSON.parse(process.argv[2] ?? ''));
await server.waitForTarget();
process.stdout.write('ready\n');
setInterval(() => undefined, 60_000);
