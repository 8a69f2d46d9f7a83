import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import {
  type GuardedServer,
  type RunningAgent,
  startGuardedServer,
  startOrders,
  type Traffic,
} from './guarded-server.ts';
import { median } from './measure.ts';
import { machineLine, targetLines } from './report.ts';
import type { Setting } from './stage.ts';

const CLIENTS = 4;
const DISASTERS = 20;
const THRESHOLD = 10_000;
const TABLE_ROWS = 40_000;
const TURN_MS = 8000;

interface Latencies {
  /** From the row that is one too many until the watch has seen it. */
  readonly seenMs: readonly number[];
  /** From the answer to the COMMIT until the agent says so, and until the receiver of the alert has it. */
  readonly toldMs: readonly number[];
  readonly alertedMs: readonly number[];
}

/**
 * A table loses its rows beside traffic, again and again: how soon is it seen, and how soon after the commit are people told?
 * And what does the guard cost: transactions a second with a snapshot held, against an agent that does not watch.
 */
export async function benchDetection(setting: Setting): Promise<void> {
  await using receiver = await startReceiver();
  await using guarded = await startGuardedServer(
    setting,
    `watch: { rows: ${THRESHOLD}, share: off }
notifications: { channels: { pager: { type: webhook, url: "http://127.0.0.1:${receiver.port}/", secret: env:HOOK_SECRET, allow_private: true, allow_http: true } } }
`,
  );
  const traffic = await startOrders(guarded.server, CLIENTS);
  try {
    const latencies = await measureLatencies(setting, { guarded, receiver });
    const ratios = await measureThroughput(setting, guarded, traffic);
    console.log(reportOf(setting, latencies, ratios).join('\n'));
  } finally {
    traffic.stop();
  }
}

interface Receiver extends AsyncDisposable {
  readonly port: number;
  /** When a message arrived of this incident that says so. */
  arrival(incident: string, word: string): Promise<number>;
}

async function startReceiver(): Promise<Receiver> {
  const arrivals: { readonly atMs: number; readonly text: string }[] = [];
  const server = createServer((request, response) => {
    const atMs = Date.now();
    let text = '';
    request.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    request.on('end', () => {
      arrivals.push({ atMs, text });
      response.end('ok');
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    async arrival(incident, word) {
      for (;;) {
        const found = arrivals.find(({ text }) => text.includes(incident) && text.includes(word));
        if (found !== undefined) return found.atMs;
        await sleep(5);
      }
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

async function measureLatencies(
  setting: Setting,
  { guarded, receiver }: { readonly guarded: GuardedServer; readonly receiver: Receiver },
): Promise<Latencies> {
  const agent = await guarded.startAgent('watching');
  const client = await guarded.server.connect();
  const found = { seenMs: [] as number[], toldMs: [] as number[], alertedMs: [] as number[] };
  try {
    for (let round = 0; round <= DISASTERS; round += 1) {
      const { seenMs, toldMs, alertedMs } = await loseTable(client, { agent, receiver, round });
      // The first one finds nothing warm.
      if (round === 0) continue;
      found.seenMs.push(seenMs);
      found.toldMs.push(toldMs);
      found.alertedMs.push(alertedMs);
      setting.say(
        `seen ${seenMs.toFixed(0)} ms, told ${toldMs.toFixed(0)} ms, alerted ${alertedMs.toFixed(0)} ms`,
      );
    }
  } finally {
    await agent.stop();
    await letGo(client);
    await client.end();
  }
  return found;
}

/** Snapshots that outlive their agent would be held beside what is measured next. */
async function letGo(client: pg.Client): Promise<void> {
  const held = "from pg_stat_activity where application_name like 'aishell hold %'";
  while (((await client.query(`select pg_terminate_backend(pid) ${held}`)).rowCount ?? 0) > 0)
    await sleep(100);
}

/** Deletes row by row behind the threshold, so that it is known when that was passed. */
async function loseTable(
  client: pg.Client,
  {
    agent,
    receiver,
    round,
  }: { readonly agent: RunningAgent; readonly receiver: Receiver; readonly round: number },
): Promise<{ seenMs: number; toldMs: number; alertedMs: number }> {
  await client.query(
    `create table victims_${round} as select n as id from generate_series(1, ${TABLE_ROWS}) n;
     create index on victims_${round} (id); analyze victims_${round}`,
  );
  await sleep(2000);
  let thresholdMs = 0;
  const onNotice = (notice: { readonly message?: string | undefined }): void => {
    thresholdMs = Number(notice.message);
  };
  client.on('notice', onNotice);
  await client.query('begin');
  await client.query(
    `do $$ begin
       delete from victims_${round} where id < ${THRESHOLD};
       delete from victims_${round} where id = ${THRESHOLD};
       raise notice '%', (extract(epoch from clock_timestamp()) * 1000)::numeric(20, 3);
       for i in ${THRESHOLD + 1}..${THRESHOLD + 500} loop
         delete from victims_${round} where id = i;
         perform pg_sleep(0.001);
       end loop;
     end $$`,
  );
  client.off('notice', onNotice);
  const seen = await agent.next('incident');
  const incident = String(seen.facts['incident']);
  await client.query('commit');
  const committedMs = Date.now();
  const told = await agent.next('disaster');
  const alertedMs = await receiver.arrival(incident, '"critical"');
  return {
    seenMs: Number(seen.facts['detectedMs']) - thresholdMs,
    toldMs: Date.parse(told.facts.at) - committedMs,
    alertedMs: alertedMs - committedMs,
  };
}

/** Both kinds of agent in turns, the other one first each time; the ratio of each pair. */
async function measureThroughput(
  setting: Setting,
  guarded: GuardedServer,
  traffic: Traffic,
): Promise<readonly number[]> {
  const ratios: number[] = [];
  for (let round = 0; round < Math.max(setting.rounds, 5); round += 1) {
    const rates = { watching: 0, 'not watching': 0 };
    const order = ['watching', 'not watching'] as const;
    for (const kind of round % 2 === 0 ? order : [...order].reverse())
      rates[kind] = await rateBeside(guarded, { kind, traffic });
    const ratio = rates.watching / rates['not watching'];
    setting.say(
      `round ${round + 1}: guarded ${rates.watching.toFixed(0)}, unguarded ${rates['not watching'].toFixed(0)} a second: ${ratio.toFixed(3)}`,
    );
    ratios.push(ratio);
  }
  return ratios;
}

/** A table is emptied first, whoever looks: a snapshot is held for it, or not. */
async function rateBeside(
  guarded: GuardedServer,
  { kind, traffic }: { readonly kind: 'watching' | 'not watching'; readonly traffic: Traffic },
): Promise<number> {
  const agent = await guarded.startAgent(kind);
  const client = await guarded.server.connect();
  try {
    await client.query('drop table if exists emptied');
    await client.query(
      `create table emptied as select n as id from generate_series(1, ${TABLE_ROWS}) n; analyze emptied`,
    );
    await sleep(2000);
    await client.query('begin; delete from emptied');
    if (kind === 'watching') await agent.next('incident');
    await client.query('commit');
    await sleep(1000);
    const [before, startedAt] = [traffic.committed(), performance.now()];
    await sleep(TURN_MS);
    return (traffic.committed() - before) / ((performance.now() - startedAt) / 1000);
  } finally {
    await agent.stop();
    await letGo(client);
    await client.end();
  }
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function reportOf(setting: Setting, latencies: Latencies, ratios: readonly number[]): string[] {
  const line = (values: readonly number[]): string =>
    `p50 ${percentile(values, 0.5).toFixed(0)} ms, p95 ${percentile(values, 0.95).toFixed(0)} ms, longest ${Math.max(...values).toFixed(0)} ms`;
  const { seenMs, toldMs, alertedMs } = latencies;
  return [
    `Detection: ${new Date().toISOString().slice(0, 10)}`,
    '',
    `PostgreSQL ${setting.binaries.version}, ${CLIENTS} clients writing, ${DISASTERS} disasters, warm. ${machineLine()}.`,
    '',
    `- from row ${THRESHOLD}, the limit, until it is seen: ${line(seenMs)}`,
    `- from the answer to COMMIT until the agent says so: ${line(toldMs)}`,
    `- from the answer to COMMIT until a webhook has the alert: ${line(alertedMs)}`,
    `- transactions a second, guarded with a snapshot held / agent that does not watch: ${ratios.map(each => each.toFixed(3)).join(', ')}`,
    '',
    ...targetLines([
      { what: 'limit seen, p95', value: percentile(seenMs, 0.95), limit: 150, kind: 'at most', unit: ' ms' },
      {
        what: 'alert after COMMIT, p95',
        value: percentile(toldMs, 0.95),
        limit: 50,
        kind: 'at most',
        unit: ' ms',
      },
      { what: 'throughput while guarded', value: median(ratios), limit: 0.97, kind: 'at least', unit: '' },
    ]),
  ];
}
