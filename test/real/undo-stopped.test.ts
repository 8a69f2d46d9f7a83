import { expect, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { emergencyStatus, resumeWrites, stopWrites } from '../support/emergency.ts';
import { failureOf } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { configureEmergency, dumpControls } from '../support/server-controls.ts';
import { commit, rowsOf, undo } from '../support/undo.ts';
import { protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 8000;

for (const version of [15, 18] as const) {
  test(`PostgreSQL ${version}, noticed, writes stopped, undone, resumed - at soft the undo writes and nobody else, at hard and strict it says what to do`, async () => {
    await using cluster = await startTestCluster({ version });
    const instance = await protectWatched(cluster);
    await configureEmergency(instance);
    await cluster.query('create database shop');
    const owner = await cluster.connect('shop');
    await owner.query(`
      create table users (id int primary key, name text);
      create table orders (id int primary key, user_id int references users on delete cascade);
      insert into users select n, 'user ' || n from generate_series(1, ${ROWS}) n;
      insert into orders select n, n from generate_series(1, ${ROWS}) n;
      create table notes as select n as id from generate_series(1, 500) n;`);
    await using agent = await startAgent(instance);
    await instance.backup();
    const users = await rowsOf(owner, 'users');
    const orders = await rowsOf(owner, 'orders');
    const notes = await rowsOf(owner, 'notes');
    const controls = await dumpControls(cluster);

    // The disaster, as the agent sees it.
    await owner.query('begin; delete from users');
    await untilIncident(instance, each => each.guard.snapshot !== null);
    await owner.query('commit');
    const seen = await untilIncident(instance, each => each.guard.autovacuumOff.length === 2);
    expect(seen.guard.snapshot?.releasedAt).toBeNull();
    expect(await stopWrites(instance)).toMatchObject({
      level: 'soft',
      problems: [],
      incident: { id: seen.id },
    });
    const refused = async (): Promise<void> => {
      const app = await cluster.connect('shop');
      await expect(app.query('insert into notes values (0)')).rejects.toThrow(/read-only/);
      await app.end();
    };
    await refused();
    const undone = await undo(instance, ['latest']);
    expect(undone.source.kind).toBe('snapshot');
    expect(undone.problems).toEqual([]);
    expect(undone).toHaveProperty('writesStopped', true);
    await refused();
    // The incident is resolved by it: what the agent had changed is put back, while writes are stopped.
    await untilIncident(
      instance,
      ({ id, status, guard }) =>
        id === seen.id &&
        status === 'resolved' &&
        guard.autovacuumOff.length === 0 &&
        guard.snapshot?.releasedAt != null,
    );
    expect(await cluster.query("select 1 from pg_class where reloptions::text ~ 'autovacuum'")).toEqual([]);
    expect(await emergencyStatus(instance)).toMatchObject({ stopped: true, inEffect: true });

    // Still stopped: a table that is gone comes back from a backup.
    const session = await cluster.connect('shop');
    await session.query('set default_transaction_read_only = off');
    const dropped = await commit(session, 'drop table notes');
    const back = await undo(instance, ['--xid', String(dropped)]);
    expect(back.source.kind).toBe('side instance');
    await refused();
    expect(await resumeWrites(instance)).toMatchObject({ resumed: true, writable: true, problems: [] });
    expect(await dumpControls(cluster)).toEqual(controls);
    const again = await cluster.connect('shop');
    expect(await rowsOf(again, 'users')).toEqual(users);
    expect(await rowsOf(again, 'orders')).toEqual(orders);
    expect(await rowsOf(again, 'notes')).toEqual(notes);
    const app = await cluster.connect('shop');
    await app.query('update notes set id = id');

    // Stopped for everybody: the undo says what to do, and changes nothing.
    await again.query('begin; delete from orders');
    const second = await untilIncident(instance, each => each.id !== seen.id && each.guard.snapshot !== null);
    await again.query('commit');
    await untilIncident(instance, each => each.id === second.id && each.guard.autovacuumOff.length > 0);
    for (const [level, why] of [
      ['hard', 'its database takes no connections'],
      ['strict', 'the server is in recovery mode'],
    ] as const) {
      await stopWrites(instance, '--level', level);
      const failure = failureOf(await instance.run(['backup', 'undo', 'latest', '--yes']));
      expect(failure).toMatchObject({ code: 'UNDO_REFUSED' });
      expect(failure.message).toContain(why);
      expect(failure.hint).toContain('aishell emergency resume-writes');
      // Resolved while nobody can write: what is left of it is put back as soon as somebody can.
      if (level === 'strict') await instance.run(['incident', 'resolve', 'latest']);
      await resumeWrites(instance);
    }
    await untilIncident(instance, ({ id, guard }) => id === second.id && guard.autovacuumOff.length === 0);
    expect(await cluster.query("select 1 from pg_class where reloptions::text ~ 'autovacuum'")).toEqual([]);
    // The restart of level strict has ended the snapshot, and that is on record.
    const lost = await untilIncident(
      instance,
      each => each.id === second.id && each.guard.snapshot?.releasedAt != null,
    );
    expect(lost.events.map(({ event }) => event)).toContain('hold lost');
    await agent.until('hold lost');
    const late = await undo(instance, ['latest']);
    expect(late.source.kind).toBe('side instance');
    const last = await cluster.connect('shop');
    expect(await rowsOf(last, 'orders')).toEqual(orders);
    await last.end();
  });
}
