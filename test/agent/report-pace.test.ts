import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { paceReports } from '../../src/agent/report-pace.ts';

test('much comes with one read - one report; after a while of nothing one more, when it was received last', async () => {
  let reports = 0;
  const pace = paceReports(() => (reports += 1), 40);
  for (let n = 0; n < 3; n += 1) {
    pace.received();
    pace.received();
    expect(reports).toBe(n);
    await sleep(10);
    expect(reports).toBe(n + 1);
  }
  await expect.poll(() => reports).toBe(4);
  pace.received();
  await expect.poll(() => reports).toBe(6);
  pace.received();
  await sleep(1);
  pace.stop();
  await sleep(80);
  expect(reports).toBe(7);
});

test('whoever flushes tells it - one report for each read alone', async () => {
  let reports = 0;
  const pace = paceReports(() => (reports += 1), null);
  pace.received();
  await sleep(80);
  expect(reports).toBe(1);
  pace.stop();
});
