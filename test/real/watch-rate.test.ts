import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { expect, test } from 'vitest';
import type { BaselineState } from '../../src/watch/baseline.ts';
import { startAgent } from '../support/agent.ts';
import { failureOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const DAY_MS = 86_400_000;
const WINDOW_MS = 300_000;
const USUAL_ROWS = 6000;
const BATCH_ROWS = 1000;
const DAYS = 4;

/** Waits for the next window of the baseline, unless this one lasts. */
async function untilWindowLasts(ms: number): Promise<void> {
  const left = WINDOW_MS - (Date.now() % WINDOW_MS);
  if (left < ms) await sleep(left + 100);
}

/** Small transactions, each far below every limit of one transaction. */
async function change(client: pg.Client, rows: number): Promise<void> {
  for (let done = 0; done < rows; done += BATCH_ROWS)
    await client.query(
      `update orders set state = state + 1 where id in (select id from orders order by state, id limit ${BATCH_ROWS})`,
    );
}

function baselineFile(instance: TestInstance): string {
  return instance.path(`spool/${instance.name}/incidents/baseline.json`);
}

async function readBaseline(instance: TestInstance): Promise<BaselineState> {
  return JSON.parse(await readFile(baselineFile(instance), 'utf8')) as BaselineState;
}

/** What an agent has learned, as if it had been that many days ago: the clock of a server cannot be put forward. */
function older({ version, sinceMs, tables }: BaselineState, days: number): BaselineState {
  return {
    version,
    sinceMs: sinceMs - days * DAY_MS,
    tables: Object.fromEntries(
      Object.entries(tables).map(([name, { hours, window, largest, changedMs }]) => [
        name,
        {
          hours: hours.map(({ peak, day }) => ({ peak, day: day - days })),
          window: { ...window, startMs: window.startMs - days * DAY_MS },
          largest,
          changedMs: changedMs - days * DAY_MS,
        },
      ]),
    ),
  };
}

test('a table changes ten times as fast as it does at this hour - told with its numbers; at the usual rate nothing is', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  const instance = await protectWatched(cluster);
  await cluster.query('create table orders as select n as id, 0 as state from generate_series(1, 200000) n');
  await cluster.query('analyze');
  const client = await cluster.connect();

  // The first agent learns what is usual, from the log.
  const first = await startAgent(instance);
  await untilWindowLasts(60_000);
  await change(client, USUAL_ROWS);
  await sleep(2500);
  expect((await first.stop()).exitCode).toBe(0);
  const learned = await readBaseline(instance);
  const name = JSON.stringify(['postgres', 'public', 'orders']);
  expect(learned.tables[name]?.window.rows).toBe(USUAL_ROWS);
  await writeFile(baselineFile(instance), JSON.stringify(older(learned, DAYS)));

  // Days later, at this hour.
  await using agent = await startAgent(instance);
  await untilWindowLasts(60_000);
  await change(client, USUAL_ROWS);
  await sleep(2500);
  expect(await incidentsOf(instance)).toEqual([]);
  expect((await readBaseline(instance)).sinceMs).toBeLessThan(Date.now() - 3 * DAY_MS);
  let changed = USUAL_ROWS;
  for (; (await incidentsOf(instance)).length === 0 && changed < 20 * USUAL_ROWS; changed += 3 * BATCH_ROWS)
    await change(client, 3 * BATCH_ROWS);
  const incident = await untilIncident(instance, () => true, 5000);

  const rows = incident.tables[0]?.rows ?? 0;
  // A tenth less with each day; the night may fall in between.
  const usual = [DAYS, DAYS + 1].map(days => Math.round(USUAL_ROWS * 0.9 ** days));
  expect(usual.map(each => each * 10).some(each => rows >= each - 10)).toBe(true);
  expect(rows).toBeLessThanOrEqual(changed);
  expect(incident).toMatchObject({
    ...{ status: 'open', severity: 'warning', culprit: null },
    rule: { name: 'rate', confidence: 'possible' },
    tables: [{ act: 'rate', database: 'postgres', schema: 'public', table: 'orders' }],
    guard: { policy: 'alert', snapshot: null, autovacuumOff: [], cancelled: false },
  });
  const told =
    /^([\d,]+) rows of public\.orders changed within 5 minutes; at this hour it is usually not more than ([\d,]+)$/;
  const [, saidRows = '', saidUsual = ''] = told.exec(incident.rule.explanation) ?? [];
  const numberOf = (text: string): number => Number(text.replaceAll(',', ''));
  expect(numberOf(saidRows)).toBe(rows);
  expect(usual).toContain(numberOf(saidUsual));
  expect((await agent.until('incident'))['message']).toContain(incident.rule.explanation);

  // Once for a window, and not for one transaction: nothing goes back to before one of many.
  await change(client, 5 * BATCH_ROWS);
  await sleep(2500);
  expect(await incidentsOf(instance)).toHaveLength(1);
  for (const args of [
    ['backup', 'undo', 'latest', '--yes'],
    ['backup', 'restore', '--before-incident', 'latest', '--dry-run'],
  ]) {
    const failure = failureOf(await instance.run(args));
    expect(failure.message).toContain('is about many transactions together');
    expect(failure.hint).toContain('--table postgres.public.orders');
  }
  const shown = await instance.run(['incident', 'show']);
  expect(shown.exitCode).toBe(0);
});
