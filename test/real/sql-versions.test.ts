import { expect, test } from 'vitest';
import type { StatementReport } from '../../src/operations/sql/statement-report.ts';
import { failureOf, protect, resultOf } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { changesOf, reportsOf, rowsOf, shopCounts, shopTables, sql } from '../support/sql.ts';

for (const version of [14, 15, 16, 17] as const) {
  test(`${version}: the console - reads, counts, tries, refuses and commits as on the newest server`, async () => {
    await using cluster = await startTestCluster({ version });
    await cluster.query(shopTables);
    const instance = await protect(cluster, { archiving: false });
    const script = `delete from users where id <= 7; select count(*) from users;
      begin; update users set balance = 0 where id < 10; select nope; commit`;
    const done = await sql(instance, ['-c', script], { json: true });
    expect(failureOf(done).message).toMatch(/column "nope" does not exist \(statement 5 of 6\)/);
    const reports = reportsOf(done);
    expect(changesOf(reports[0]!)).toEqual({
      'public.users': [0, 0, 7],
      'public.orders': [0, 0, 14],
      'public.notes': [0, 7, 0],
      'public.audit': [7, 0, 0],
    });
    expect(rowsOf(done)).toEqual([{ count: '2993' }]);
    const after = { users: 2993, orders: 5986, notes: 93, audit: 7 };
    expect(await shopCounts(cluster)).toEqual(after);
    expect(await cluster.query('select 1 from users where balance = 0')).toEqual([]);

    const tried: StatementReport[] = [];
    for (const statement of ['delete from users where id > 0', 'truncate users cascade']) {
      const dry = await sql(instance, ['--dry-run', statement], { json: true });
      resultOf(dry);
      tried.push(...reportsOf(dry));
    }
    const [deleted, truncated] = tried;
    expect(changesOf(deleted!)).toEqual({
      'public.users': [0, 0, 2993],
      'public.orders': [0, 0, 5986],
      'public.notes': [0, 93, 0],
      'public.audit': [2993, 0, 0],
    });
    expect(deleted!.sampleKeys).toHaveLength(5);
    expect(truncated!.tables.map(({ table, whole, lostRows }) => [table, whole, lostRows]).sort()).toEqual([
      ['public.notes', 'emptied', 100],
      ['public.orders', 'emptied', 5986],
      ['public.users', 'emptied', 2993],
    ]);
    const refused = failureOf(await sql(instance, ['delete from users where id > 0'], { json: true }));
    expect(refused.code).toBe('CONFIRMATION_REQUIRED');
    expect(await shopCounts(cluster)).toEqual(after);
    expect(failureOf(await sql(instance, ['--read-only', 'drop table users'], { json: true })).exitCode).toBe(
      4,
    );
  });
}
