import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { createCluster } from '../../src/engines/postgres/embedded.ts';
import { findEmbedded, prepareEmbedded } from '../../src/engines/postgres/embedded-binaries.ts';
import { copyTree } from '../../src/engines/postgres/embedded-copy.ts';
import { runCliOk } from '../support/cli.ts';
import { checkClean, startTestCluster, tableFingerprints } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temp.ts';
import { loadTraffic } from '../support/traffic.ts';

test.for([14, 15, 16, 17, 18] as const)(
  'PostgreSQL %i killed under traffic - recovers every committed row',
  async version => {
    await using cluster = await startTestCluster({ version });
    const traffic = await loadTraffic(cluster, { clients: 3 });
    await traffic.progress(300);
    await cluster.kill9();
    expect(await cluster.pid()).toBeNull();
    const { committed, unknown } = await traffic.stop();

    await cluster.start();
    const client = await cluster.connect();
    const prints = await tableFingerprints(client);
    expect(prints['public.history']?.rows).toBeGreaterThanOrEqual(committed);
    expect(prints['public.history']?.rows).toBeLessThanOrEqual(committed + unknown);
    expect(prints['public.orders']?.rows).toBe(prints['public.history']?.rows);
    const checked = await checkClean(client);
    expect(checked.indexes).toBeGreaterThan(100);
  },
);

test('one value changed in one row - the fingerprint of that table alone differs', async () => {
  await using cluster = await startTestCluster({ version: 18, checksums: false });
  const client = await cluster.connect();
  await client.query(
    'create table a as select n, n::text as v from generate_series(1, 1000) n; create table b as table a',
  );
  const before = await tableFingerprints(client);
  await client.query("update a set v = 'other' where n = 500");
  const after = await tableFingerprints(client);
  expect(after['public.b']).toEqual(before['public.b']);
  expect(after['public.a']?.rows).toBe(1000);
  expect(after['public.a']?.checksum).not.toBe(before['public.a']?.checksum);
  expect(before['public.a']).toEqual(before['public.b']);
});

test('the program, run as the account of the servers - starts and says its version', async () => {
  const result = await runCliOk(['--version']);
  expect(result.stderr).toBe('');
  expect(result.stdout).toMatch(/\d+\.\d+\.\d+/);
});

test('a package where the account of the servers cannot enter, not hydrated - runs from a copy made by several at once', async ctx => {
  const { user, directory } = inject('harness');
  if (user === null) return ctx.skip('only root runs servers as another account');
  await using place = await temporaryDirectory({ parent: directory });
  await chmod(place.path, 0o755);
  const closed = join(place.path, 'closed');
  await mkdir(closed, { mode: 0o700 });
  const installed = await findEmbedded(18);
  await copyTree(installed ?? '', join(closed, 'pg18'));

  const request = { packageDirectory: join(closed, 'pg18'), user, directory: place.path };
  const made = await Promise.all([1, 2, 3].map(() => prepareEmbedded(request)));
  for (const binaries of made) {
    expect(binaries).toEqual({ version: 18, binDirectory: join(place.path, 'postgres-18/native/bin') });
  }
  await using cluster = await createCluster({
    binaries: made[0]!,
    directory: join(place.path, 'server'),
    user,
  });
  await cluster.start();
  expect(await cluster.pid()).not.toBeNull();
});
