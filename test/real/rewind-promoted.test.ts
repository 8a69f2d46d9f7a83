import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { expect, test } from 'vitest';
import { reservePort } from '../../src/engines/postgres/embedded-port.ts';
import { failureOf, protect, resultOf, shell, untilArchived } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';

/**
 * A standby that people read from sets hints of commits in pages that wait to be written, and logs none of them. Rewound to
 * before such a commit, the page would say that it was made.
 */
test('a server that was a standby after the target - it is not rewound, and what was not committed is not there', async () => {
  const settings = { autovacuum: 'off', checkpoint_timeout: '1h', bgwriter_lru_maxpages: 0 };
  await using cluster = await startTestCluster({ version: 18, settings });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 10) n');
  await cluster.query('create table other (n int)');
  await cluster.query('vacuum freeze t');
  await cluster.stop();
  const { dataDirectory } = cluster;
  const standby = instance.path('standby');
  const { host, user } = cluster.connection;
  const source = `primary_conninfo = 'host=${host} port=${cluster.connection.port} user=${user}'`;
  const copied = await shell(
    cluster,
    `cp -a '${dataDirectory}' '${standby}' && touch '${standby}/standby.signal'`,
  );
  expect(copied.exitCode, copied.output).toBe(0);
  const own = await readFile(join(standby, 'postgresql.auto.conf'), 'utf8');
  await writeFile(join(standby, 'postgresql.auto.conf'), `${own}\n${source}\n`);
  await cluster.start();
  const port = await reservePort();
  const ctl = `'${join(cluster.binaries.binDirectory, 'pg_ctl')}' -D '${standby}' -w`;
  const options = `-p ${port.port} -c unix_socket_directories=''`;
  const started = await shell(cluster, `${ctl} -l '${standby}.log' -o "${options}" start`);
  expect(started.exitCode, started.output).toBe(0);
  const reader = new pg.Client({ ...cluster.connection, port: port.port });
  reader.on('error', () => undefined);
  await reader.connect();
  const untilReplayed = async (): Promise<void> => {
    const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
    for (;;) {
      const { rows } = await reader.query('select pg_last_wal_replay_lsn() >= $1::pg_lsn as done', [
        row!.lsn,
      ]);
      if (rows[0].done === true) return;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  };
  const writer = await cluster.connect();
  await writer.query('begin');
  await writer.query('insert into t values (-1)');
  // Written out, so that the standby has it.
  await cluster.query('insert into other values (1)');
  await untilReplayed();
  await instance.backup();
  await cluster.query('insert into other values (2)');
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query('insert into other values (3)');
  await writer.query('commit');
  // A standby that removes files notes how far it must be recovered at least, which lets it set hints.
  await cluster.query('create table gone (n int)');
  await cluster.query('drop table gone');
  await untilReplayed();
  expect((await reader.query('select n from t where n < 0')).rows).toEqual([{ n: -1 }]);
  await reader.end();
  const [last] = await cluster.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name');
  await untilArchived(instance, last!.name);
  await cluster.stop();
  // The standby takes over, in the place of the other one.
  for (const command of ['promote', '-m fast stop']) {
    const done = await shell(cluster, `${ctl} ${command}`);
    expect(done.exitCode, done.output).toBe(0);
  }
  port.release();
  await rename(dataDirectory, `${dataDirectory}.first`);
  await rename(standby, dataDirectory);
  await writeFile(join(dataDirectory, 'postgresql.auto.conf'), own);
  await rm(join(dataDirectory, 'postmaster.opts'), { force: true });
  await cluster.start();
  const confirmed = ['--confirm', 'restore shop', '--yes'];
  const restore = ['backup', 'restore', '--lsn', target!.lsn, ...confirmed];
  const refused = failureOf(await instance.run([...restore, '--rewind']));
  expect(refused).toMatchObject({ code: 'REWIND_IMPOSSIBLE' });
  expect(refused.message).toContain('was a standby, or in another recovery, after the target');
  const report = resultOf<{ way: { kind: string } }>(await instance.run(restore));
  expect(report.way.kind).toBe('full');
  expect(await cluster.query('select n from t where n < 0')).toEqual([]);
}, 120_000);
