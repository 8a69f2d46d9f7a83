import { expect, test } from 'vitest';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { commit, holdSnapshot, incidentOf, rowsOf, storeIncident, undo } from '../support/undo.ts';

test.each([14, 18] as const)(
  'PostgreSQL %i, rows deleted and updated - all are back as they were, from a held snapshot and from a backup',
  async version => {
    await using cluster = await startTestCluster({ version, settings: { autovacuum: 'off' } });
    const instance = await protect(cluster);
    await cluster.query('create database shop');
    const client = await cluster.connect('shop');
    await client.query(`
      create table users (id bigint generated always as identity primary key, email text unique, story text,
                          upper text generated always as (upper(email)) stored);
      insert into users (email, story) select 'u' || n, repeat(md5(n::text), 200) from generate_series(1, 3000) n;`);
    await instance.backup();
    const before = await rowsOf(client, 'users');
    {
      await using snapshot = await holdSnapshot(cluster, 'shop');
      const xid = await commit(client, 'delete from users');
      await client.query("insert into users (email) values ('later')");
      await client.query('vacuum users');
      const incident = await storeIncident(instance, { xid, snapshot });
      const report = await undo(instance, ['latest']);
      expect(report.source.kind).toBe('snapshot');
      expect(report.tables).toMatchObject([{ table: 'users', destroyed: 3000, present: 3000, left: [] }]);
      expect(report.undone).toMatchObject([
        { inserted: 3000, setBack: 0, proof: { rows: 3000, equal: true } },
      ]);
      expect(await incidentOf(instance, incident)).toMatchObject({ status: 'resolved' });
    }
    await client.query("delete from users where email = 'later'");
    expect(await rowsOf(client, 'users')).toEqual(before);

    const xid = await commit(
      client,
      "update users set story = 'lost' where id <= 1000",
      'delete from users where id > 2500',
    );
    const report = await undo(instance, ['--xid', String(xid)]);
    expect(report.source.kind).toBe('side instance');
    expect(report.undone).toMatchObject([
      { inserted: 500, setBack: 1000, proof: { rows: 1500, equal: true } },
    ]);
    expect(await rowsOf(client, 'users')).toEqual(before);
  },
);
