import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chown, copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { aishell, buildProgram } from './peers/aishell.ts';
import { createDataDirectory, type RunningServer, startServer } from './server.ts';
import type { Setting } from './stage.ts';

/** What webhooks are signed with. */
const HOOK_SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;

export interface AgentNoteLine {
  readonly topic: string;
  readonly facts: Readonly<Record<string, unknown>> & { readonly at: string };
}

/** A server with orders coming in, and agents that watch it or do not. */
export interface GuardedServer extends AsyncDisposable {
  readonly server: RunningServer;
  /** Starts an agent and waits until it streams. */
  startAgent(kind: 'watching' | 'not watching'): Promise<RunningAgent>;
}

export interface RunningAgent {
  /** The first note of a topic from now on. */
  next(topic: string): Promise<AgentNoteLine>;
  stop(): Promise<void>;
}

/** `extra`: more of the configuration, as YAML. */
export async function startGuardedServer(setting: Setting, extra: string): Promise<GuardedServer> {
  const place = { ...setting, dataDirectory: join(setting.runDirectory, 'guarded') };
  const launcher = await buildProgram(setting.runDirectory);
  await createDataDirectory(place);
  const server = await startServer(place, {
    wal_level: 'replica',
    max_wal_size: '4GB',
    shared_buffers: '256MB',
  });
  const self = aishell({ ...place, port: server.port }, launcher);
  await self.prepare();
  const home = join(setting.runDirectory, 'aishell');
  const watching = join(home, 'aishell.yaml');
  await appendFile(watching, `\nagent: { spool: ${join(home, 'spool')} }\n`);
  const idle = join(home, 'idle.yaml');
  await copyFile(watching, idle);
  if (setting.user !== null) await chown(idle, setting.user.uid, setting.user.gid);
  await appendFile(watching, extra);
  await appendFile(idle, 'watch: { enabled: false }\n');
  const client = await server.connect();
  await client.query(
    `create table accounts as select n as id, 0 as balance from generate_series(1, 20000) n;
     alter table accounts add primary key (id);
     create table orders (id bigint generated always as identity primary key, client int, account int)`,
  );
  await client.end();
  return {
    server,
    startAgent: kind =>
      startAgent(setting, { launcher, home, config: kind === 'watching' ? watching : idle }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function startAgent(
  setting: Setting,
  place: { readonly launcher: string; readonly home: string; readonly config: string },
): Promise<RunningAgent> {
  const child = spawn(place.launcher, ['agent', 'run', '--json', '--config', place.config], {
    cwd: setting.runDirectory,
    env: { PATH: '/usr/bin:/bin', HOME: place.home, HOOK_SECRET },
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(setting.user === null ? {} : { uid: setting.user.uid, gid: setting.user.gid }),
  });
  const notes: AgentNoteLine[] = [];
  let wake = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', line => {
    notes.push(JSON.parse(line) as AgentNoteLine);
    wake.resolve();
    wake = Promise.withResolvers<void>();
  });
  let read = 0;
  const next = async (topic: string): Promise<AgentNoteLine> => {
    for (;;) {
      while (read < notes.length) {
        const note = notes[read]!;
        read += 1;
        if (note.topic === topic) return note;
      }
      if (child.exitCode !== null) throw new Error('the agent has ended');
      await wake.promise;
    }
  };
  await next('streaming');
  return {
    next,
    async stop() {
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

export interface Traffic {
  /** Transactions committed so far. */
  committed(): number;
  stop(): void;
}

/** Orders come in from that many clients, in a process of their own. */
export async function startOrders(server: RunningServer, clients: number): Promise<Traffic> {
  const program = fileURLToPath(new URL('order-traffic.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [program, String(server.port), String(clients)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let committed = 0;
  const lines = createInterface({ input: child.stdout! });
  lines.on('line', line => {
    committed = Number(line);
  });
  await once(lines, 'line');
  return { committed: () => committed, stop: () => void child.kill('SIGKILL') };
}
