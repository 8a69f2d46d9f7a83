import { mkdirSync, rmSync } from 'node:fs';
import { readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { OperationEvent } from '../../src/base/events.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import { findUnfinished } from '../../src/operations/rewind/journal.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

test.each([{ stopped: true }, { stopped: false }])(
  'cut off when the control file was back, then used, %j - going on leaves what was committed since alone',
  async how => {
    await using cluster = await startTestCluster({ version: 18 });
    const instance = await protect(cluster);
    await cluster.query('create table t (id int)');
    await instance.backup();
    await cluster.query('insert into t select generate_series(1, 1000)');
    const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
    await cluster.query('delete from t');
    await cluster.stop();
    const context = await contextOf(instance);
    const { dataDirectory } = cluster;
    const controlFile = join(dataDirectory, 'global/pg_control');
    const control = await readFile(controlFile);
    const begun = await beginRewind(context, await planRewind(context, parseLsn(row!.lsn)), options);
    await finishRewind(begun.run, begun.journal, options);
    const { safety } = begun.journal.places;
    const confirm = async (): Promise<void> => undefined;
    // What comes right behind the control file fails, which is as good as a kill there.
    const pointer = join(dataDirectory, 'aishell-rewind.json');
    const text = await readFile(pointer, 'utf8');
    const onEvent = (event: OperationEvent): void => {
      if (event.type !== 'step' || event.step !== 'sync' || event.state !== 'done') return;
      rmSync(pointer);
      mkdirSync(pointer);
    };
    await expect(
      goBack({ ...context, whole: null }, safety, { ...options, confirm, onEvent }),
    ).rejects.toThrow('unable to remove');
    await rmdir(pointer);
    await writeFile(pointer, text);
    expect(await readFile(controlFile)).toEqual(control);
    expect(await findUnfinished(dataDirectory)).not.toBeNull();
    // It is a database like any other already, and something starts it.
    await cluster.start();
    await cluster.query('insert into t values (-1)');
    if (how.stopped) await cluster.stop();
    await goBack({ ...context, whole: null }, safety, { ...options, confirm });
    expect(await findUnfinished(dataDirectory)).toBeNull();
    if (!how.stopped) await cluster.stop();
    await cluster.start();
    expect(await cluster.query('select id from t')).toEqual([{ id: -1 }]);
  },
  120_000,
);
