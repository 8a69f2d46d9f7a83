import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../src/engines/postgres/connection.ts';
import { type DataFileEntry, listDataFiles } from '../../src/engines/postgres/data-files.ts';
import { readServerFacts } from '../../src/engines/postgres/server-facts.ts';
import { startTestCluster } from '../support/postgres.ts';

test.for([14, 16, 18] as const)(
  'PostgreSQL %i - exactly the files of its logged relations are listed as relations',
  async version => {
    await using cluster = await startTestCluster({ version });
    const place = join(cluster.directory, 'sp ace');
    await mkdir(place);
    if (cluster.user !== null) await chown(place, cluster.user.uid, cluster.user.gid);
    const client = await connect(cluster.connection);
    try {
      await client.query(`create tablespace away location '${place}'`);
      await client.query(
        "create table public.kept as select n, repeat('x', 100) as v from generate_series(1, 50000) n",
      );
      await client.query('create index on public.kept (n)');
      await client.query('vacuum public.kept');
      await client.query('create table public.moved (n int) tablespace away');
      await client.query('insert into public.moved select generate_series(1, 1000)');
      await client.query('create unlogged table public.unlogged as select generate_series(1, 1000) n');
      await client.query('create index unlogged_n on public.unlogged (n)');
      await client.query('create temp table gone as select generate_series(1, 1000) n');
      await client.query('checkpoint');
      const facts = await readServerFacts(client);
      expect(facts.tablespaces).toMatchObject([{ name: 'away', path: place }]);
      const files = new Map<string, DataFileEntry>();
      const { tablespaceVersionDirectory, relationSegmentBlocks, logDirectory } = facts;
      for await (const entry of listDataFiles(facts.dataDirectory, {
        tablespaceVersionDirectory,
        relationSegmentBlocks,
        logDirectory,
      })) {
        expect(entry.kind).not.toBe('passed over');
        if (entry.kind === 'file') files.set(entry.path, entry);
      }
      const { rows } = await client.query<{ name: string; path: string; persistence: string; size: string }>(`
      select relname as name, pg_relation_filepath(oid) as path, relpersistence as persistence, pg_relation_size(oid) as size
      from pg_class where pg_relation_filepath(oid) is not null`);
      expect(rows.length).toBeGreaterThan(200);
      for (const row of rows) {
        const main = files.get(row.path);
        if (row.persistence === 'p') {
          expect(main, row.name).toMatchObject({
            sizeBytes: Number(row.size),
            relation: { fork: 'main', firstBlock: 0 },
          });
        } else {
          expect(main, row.name).toBeUndefined();
          expect(files.has(`${row.path}_init`), row.name).toBe(row.persistence === 'u');
        }
      }
      const kept = rows.find(row => row.name === 'kept')!.path;
      expect(files.get(`${kept}_fsm`)?.relation?.fork).toBe('fsm');
      expect(files.get(`${kept}_vm`)?.relation?.fork).toBe('vm');
      expect(rows.find(row => row.name === 'moved')!.path).toMatch(/^pg_tblspc\//);
      for (const path of files.keys())
        expect(path).not.toMatch(/^pg_wal\/|postmaster|pg_control|pgsql_tmp|internal\.init/);
      expect(files.has('pg_xact/0000')).toBe(true);
      expect(files.has('global/pg_filenode.map')).toBe(true);
    } finally {
      await client.end();
    }
  },
);
