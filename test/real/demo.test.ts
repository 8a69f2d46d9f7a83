import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { type DemoResult, runDemo } from '../../src/operations/demo/run-demo.ts';
import { type CliResult, type RunningCli, startCli } from '../support/cli.ts';
import { temporaryDirectory } from '../support/temp.ts';

/** Whoever runs the tests runs the demo: root as well as anyone else. */
function startDemo(temporary: string, args: readonly string[]): RunningCli {
  return startCli(['demo', '--json', ...args], { asServerUser: false, env: { TMPDIR: temporary } });
}

/** A directory for temporary files that the server's account can enter as well. */
async function publicDirectory(): ReturnType<typeof temporaryDirectory> {
  const directory = await temporaryDirectory({ parent: inject('harness').directory });
  await chmod(directory.path, 0o1777);
  return directory;
}

function resultOf(done: CliResult): DemoResult {
  const last = done.json.at(-1);
  if (last?.type !== 'result') throw new Error(`the demo failed: ${JSON.stringify(last)}\n${done.stderr}`);
  return last.result as DemoResult;
}

test('20,000 users lost, twice - undone, then rewound: every table is back, and nothing is left behind', async () => {
  await using temporary = await publicDirectory();
  const done = await startDemo(temporary.path, ['--rows', '20000']).done;
  const result = resultOf(done);
  expect(done.exitCode).toBe(0);
  expect(result.undone.usersBack).toBe(20_000);
  expect(result.undone.ordersBack).toBeGreaterThanOrEqual(10_000);
  expect(result.undone.salesKept).toBeGreaterThan(0);
  expect(['snapshot', 'side instance']).toContain(result.undone.source);
  expect(result.disaster.usersDeleted).toBe(20_000);
  expect(result.disaster.ordersLost).toBeGreaterThanOrEqual(10_000);
  expect(result.salesAfterTarget).toBeGreaterThan(0);
  expect(result.found.summary).toContain('deleted 20,000 rows of shop: public.users');
  expect(result.way).toBe('rewind');
  expect(result.tables.map(({ table }) => table)).toEqual(['orders', 'products', 'users']);
  for (const { rows, checksum, rowsRestored, checksumRestored } of result.tables) {
    expect(rows).toBeGreaterThan(0);
    expect([rowsRestored, checksumRestored]).toEqual([rows, checksum]);
  }
  expect(result.tables.find(({ table }) => table === 'users')?.rows).toBe(20_000);
  expect(result.seconds.outage).toBeGreaterThan(0);
  expect(result.kept).toBeNull();
  expect(await readdir(temporary.path)).toEqual([]);
});

/** What the demo has just begun when Ctrl-C comes. */
const moments = [
  'demo-prepare',
  'demo-load',
  'agent run',
  'copy',
  'demo-disaster',
  'demo-noticed',
  'stop-writes',
  'backup undo',
  'demo-undone',
  'demo-find',
  '--point-in-time',
  'demo-proof',
];

test.for(moments)("Ctrl-C at '%s' - exit 130, servers stopped, directory removed", async moment => {
  await using temporary = await publicDirectory();
  const demo = startDemo(temporary.path, ['--rows', '20000']);
  while (!demo.stdout().includes(moment) && demo.process.exitCode === null) await sleep(2);
  demo.process.kill('SIGINT');
  const done = await demo.done;
  expect(done.exitCode, `${done.stdout}\n${done.stderr}`).toBe(130);
  expect(done.json.at(-1)?.code).toBe('CANCELLED');
  expect(await readdir(temporary.path)).toEqual([]);
  expect(await processesWith(temporary.path)).toEqual([]);
});

test('--keep - the server runs on, the printed commands list the backup, stop it and remove everything', async () => {
  await using temporary = await publicDirectory();
  const { kept } = resultOf(await startDemo(temporary.path, ['--rows', '5000', '--keep']).done);
  expect(kept).not.toBeNull();
  const url = /postgresql:\S+/.exec(kept!.commands.connect)?.[0] ?? '';
  const client = new pg.Client(url);
  await client.connect();
  expect((await client.query('select count(*)::int as users from users')).rows).toEqual([{ users: 5000 }]);
  await client.end();
  expect(await shell(kept!.commands.listBackups)).toContain('hourly');
  await shell(kept!.commands.stop);
  await shell(kept!.commands.remove);
  expect(await readdir(temporary.path)).toEqual([]);
  expect(await processesWith(temporary.path)).toEqual([]);
});

test.each([
  ['undo', 'unable to undo the loss of orders, users'],
  ['restore', 'unable to bring back orders, products, users as before'],
])('%s that brings nothing back - the demo finds out and fails', async (doing, message) => {
  await using temporary = await publicDirectory();
  const { program } = inject('harness');
  if ('buildError' in program) throw new Error(program.buildError);
  const launcher = join(temporary.path, 'program/bin/aishell');
  await mkdir(dirname(launcher), { recursive: true });
  await mkdir(join(temporary.path, 'program/dist'));
  const script = `#!/bin/sh\ncase " $* " in *" ${doing} "*) echo '{"type":"result","result":{}}' ;; *) exec ${program.launcher} "$@" ;; esac\n`;
  await writeFile(launcher, script, { mode: 0o755 });
  const deps = { programDirectory: dirname(dirname(launcher)), cacheDirectory: temporary.path };
  const demo = runDemo(
    deps,
    { rows: 2000, keep: false },
    { signal: new AbortController().signal, onEvent: () => undefined },
  );
  await expect(demo).rejects.toMatchObject({
    code: 'VERIFICATION_FAILED',
    message,
  });
});

test('no rows, a negative number, too few, not a number - refused before anything is made', async () => {
  await using temporary = await publicDirectory();
  for (const rows of ['0', '-1', '1999', 'many', '1.5']) {
    expect((await startDemo(temporary.path, ['--rows', rows]).done).exitCode).toBe(2);
  }
  expect(await readdir(temporary.path)).toEqual([]);
});

async function shell(command: string): Promise<string> {
  return (await promisify(execFile)('/bin/sh', ['-c', command])).stdout;
}

/** Command lines of running processes that name a path. */
async function processesWith(path: string): Promise<string[]> {
  const lines = (await shell('ps -eo args')).split('\n');
  return lines.filter(line => line.includes(path) && !line.includes('ps -eo'));
}
