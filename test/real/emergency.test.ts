import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { emergencyStatus, resumeWrites, stopWrites } from '../support/emergency.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { configureEmergency, dumpControls } from '../support/server-controls.ts';
import { prepareStorm, startStorm, writtenBetween } from '../support/write-storm.ts';

for (const version of [15, 18] as const) {
  test(`${version}: 50 writers, a superuser and one that overrides its settings - each level stops what it says, resume puts back all`, async () => {
    await using cluster = await startTestCluster({
      version,
      settings: { max_connections: 100, max_prepared_transactions: 5 },
    });
    await prepareStorm(cluster);
    await cluster.query("alter role app set work_mem = '5MB'");
    await cluster.query('alter database shop set random_page_cost = 2');
    await cluster.query("alter system set log_min_duration_statement = '10s'");
    await cluster.query('select pg_reload_conf()');
    const instance = await protect(cluster, { archiving: false });
    const page = instance.path('maintenance.html');
    await configureEmergency(instance, [`maintenance_file: ${page}`]);
    const before = await dumpControls(cluster);

    const storm = await startStorm(cluster, 50);
    try {
      await storm.warm();
      const busy = await cluster.connect('shop');
      await busy.query("begin; insert into storm (kind, client) values ('in flight', 1)");
      const prepared = await cluster.connect('shop');
      await prepared.query(
        "begin; insert into storm (kind, client) values ('prepared', 1); prepare transaction 'two'",
      );

      for (const level of ['soft', 'hard', 'strict'] as const) {
        const report = await stopWrites(instance, '--level', level, '--reason', 'a test');
        const returned = Date.now();
        expect(report).toMatchObject({ level, reason: 'a test', already: false, dryRun: false });
        expect(report.prepared.map(({ gid }) => gid)).toEqual(['two']);
        expect(report.times.lastWriteMs).toBeGreaterThanOrEqual(0);
        if (level === 'soft') {
          // Its transaction had written, so it was ended; it was one of many.
          await expect(busy.query('commit')).rejects.toThrow();
          expect(report.problems.join()).toMatch(/evil.*--level hard or strict/);
        } else {
          expect(report.problems).toEqual([]);
          expect(report.proof).toMatchObject({ transactions: 0, inRecovery: level === 'strict' });
        }
        expect(existsSync(page)).toBe(true);
        expect(await emergencyStatus(instance)).toMatchObject({
          stopped: true,
          inEffect: true,
          stop: { level },
        });
        if (level !== 'hard') expect(storm.answered('reader', returned)).toBeGreaterThan(0);
        else expect(storm.answered('reader', returned)).toBe(0);

        const asked = Date.now();
        const resumed = await resumeWrites(instance);
        expect(resumed).toMatchObject({ resumed: true, writable: true, problems: [] });
        expect(resumed.changes.every(({ outcome }) => outcome === 'restored')).toBe(true);
        await storm.warm();
        const written = await writtenBetween(cluster, returned, asked);
        expect(Object.keys(written)).toEqual(level === 'soft' ? ['evil'] : []);
        expect(existsSync(page)).toBe(false);
        expect(await dumpControls(cluster), level).toEqual(before);
      }
    } finally {
      await storm.stop();
    }
    expect(await cluster.query('select gid from pg_prepared_xacts')).toEqual([{ gid: 'two' }]);
    const client = await cluster.connect('shop');
    await client.query("commit prepared 'two'");
    const { rows } = await client.query("select kind from storm where kind in ('in flight', 'prepared')");
    expect(rows).toEqual([{ kind: 'prepared' }]);
    await client.end();
    expect(await emergencyStatus(instance)).toMatchObject({ stopped: false, problems: [] });
    expect(await resumeWrites(instance)).toMatchObject({ resumed: false });
    const records = await readFile(instance.path('state/shop.emergency.jsonl'), 'utf8').catch(() => 'gone');
    expect(records).toBe('gone');
    expect((await stat(instance.path('state'))).mode & 0o777).toBe(0o700);
  });
}
