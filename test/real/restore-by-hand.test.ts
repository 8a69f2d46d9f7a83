import { appendFileSync, chownSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runCommand } from '../../src/base/run-command.ts';
import { openCopy, protect, shell } from '../support/instance.ts';
import { checkClean, startTestCluster, tableFingerprints } from '../support/postgres.ts';

const script = fileURLToPath(new URL('../../tools/restore.py', import.meta.url));
const python = '/usr/bin/python3';

async function isDecoderThere(): Promise<boolean> {
  if (!existsSync(python)) return false;
  const imports = 'import sys, cryptography, zstandard; sys.exit(sys.version_info < (3, 11))';
  return (await runCommand([python, '-c', imports])).exitCode === 0;
}

test('an incremental backup, a tablespace, small segments, log behind it - the decoder in Python brings back all of it, and the server starts', async context => {
  if (!(await isDecoderThere())) return context.skip('the decoder has no Python here');
  await using cluster = await startTestCluster({ version: 18, walSegmentSizeMb: 1 });
  const instance = await protect(cluster);
  const { uid, gid } = statSync(cluster.dataDirectory);
  const place = join(cluster.directory, 'sp ace');
  mkdirSync(place);
  chownSync(place, uid, gid);
  await cluster.query(`create tablespace away location '${place}'`);
  await cluster.query(
    "create table kept as select n, md5(n::text) as v, repeat('x', 100) as f from generate_series(1, 60000) n",
  );
  await cluster.query('create index on kept (v)');
  await cluster.query('create table moved tablespace away as select n from generate_series(1, 20000) n');
  await cluster.query('create unlogged table gone as select 1 as n');
  await instance.backup();
  for (let round = 1; round <= 3; round += 1) {
    await cluster.query(`update kept set v = md5(v) where n % 97 = ${round}`);
    await cluster.query(`delete from moved where n % 11 = ${round}`);
    if (round === 2) await cluster.query('truncate moved');
    if (round === 3) await cluster.query('insert into moved select n from generate_series(1, 500) n');
    await instance.backup(['--type', round === 2 ? 'differential' : 'incremental']);
  }
  await cluster.query("insert into kept select n, 'later', '' from generate_series(1, 20000) n");
  const client = await cluster.connect();
  const prints = await tableFingerprints(client);
  await client.end();
  // A server that is stopped has archived everything.
  await cluster.stop();
  const target = instance.path('by hand');
  const keyFile = instance.init.keyFile!;
  const args = [instance.repository, 'shop', 'latest', target, '--key-file', keyFile];
  const run = await runCommand([python, script, ...args], { env: { PATH: '/usr/bin:/bin' } });
  expect(run).toMatchObject({ exitCode: 0, stderr: '' });
  writeFileSync(join(target, 'recovery.signal'), '');
  appendFileSync(
    join(target, 'postgresql.auto.conf'),
    "restore_command = '/bin/false'\nrecovery_target_timeline = 'latest'\narchive_mode = off\n",
  );
  await runCommand(['chown', '-R', `${uid}:${gid}`, target, `${target}.tablespaces`]);
  const start = `'${join(cluster.binaries.binDirectory, 'pg_ctl')}' -D '${target}' -l '${target}/server.log' start`;
  const copy = { path: target, port: 1, startCommand: start };
  await using server = await openCopy(cluster, { copy } as unknown as Parameters<typeof openCopy>[1]);
  const found = await server.connect();
  for (let tries = 0; tries < 100; tries += 1) {
    const { rows } = await found.query<{ busy: boolean }>('select pg_is_in_recovery() as busy');
    if (rows[0]?.busy === false) break;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  expect(await tableFingerprints(found)).toEqual(prints);
  expect((await checkClean(found)).indexes).toBeGreaterThan(50);
  const { rows } = await found.query(
    "select pg_tablespace_location(oid) as at from pg_tablespace where spcname = 'away'",
  );
  expect(String(rows[0].at)).toContain(`${target}.tablespaces/`);
  expect((await found.query('select count(*)::int as n from gone')).rows).toEqual([{ n: 0 }]);
  expect((await shell(cluster, `ls '${target}/pg_wal'`)).exitCode).toBe(0);
});
