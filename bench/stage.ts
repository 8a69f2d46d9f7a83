import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { EmbeddedBinaries } from '../src/engines/postgres/embedded-binaries.ts';
import type { ServerUser } from '../src/engines/postgres/embedded-process.ts';
import type { Contender } from './contender.ts';
import type { Measurement } from './measure.ts';
import { aishell, buildProgram } from './peers/aishell.ts';
import { type FoundPgbackrest, pgbackrest } from './peers/pgbackrest.ts';
import { zstd } from './peers/zstd.ts';
import type { Row } from './report.ts';
import { startServer } from './server.ts';

/** What a run was asked for. */
export interface Setting {
  readonly binaries: EmbeddedBinaries;
  readonly user: ServerUser | null;
  readonly dataDirectory: string;
  /** Everything of this run, removed at its end. Belongs to the server's account. */
  readonly runDirectory: string;
  readonly rounds: number;
  /** Of the data set. */
  readonly sizeBytes: number;
  /** null where this machine has no pgBackRest. */
  readonly found: FoundPgbackrest | null;
  /** Only contenders whose name holds this text, in whatever case. */
  readonly only: string;
  readonly say: (line: string) => void;
}

/** A running server on the data set, and everyone who is to be measured on it. */
export interface Stage extends AsyncDisposable {
  readonly contenders: readonly Contender[];
  /** `bin/aishell` as the contender runs it. */
  readonly launcher: string;
  readonly client: pg.Client;
  /** From now on the server hands its log to this contender; with null it throws it away. */
  archiveWith(contender: Contender | null): Promise<void>;
}

export async function openStage(setting: Setting): Promise<Stage> {
  const launcher = await buildProgram(setting.runDirectory);
  // A run that was cut off has left its own archive_command, which no longer exists.
  await writeFile(join(setting.dataDirectory, 'postgresql.auto.conf'), "archive_command = 'exit 0'\n");
  const server = await startServer(setting, {
    archive_mode: 'on',
    wal_level: 'replica',
    shared_buffers: '256MB',
    max_wal_size: '2GB',
    checkpoint_timeout: '1h',
    // Nothing may change the files while they are measured but the backup itself.
    autovacuum: 'off',
  });
  try {
    const client = await server.connect();
    const archiveWith = async (contender: Contender | null): Promise<void> => {
      // Nobody is handed another's log: it would be part of the time.
      await archiverIdle(setting.dataDirectory);
      const command = contender?.archiveCommand ?? 'exit 0';
      await client.query(`alter system set archive_command = '${command.replaceAll("'", "''")}'`);
      await client.query('select pg_reload_conf()');
    };
    const bench = { ...setting, port: server.port };
    const all = [aishell(bench, launcher), zstd(bench)];
    if (setting.found !== null) all.push(pgbackrest(bench, setting.found));
    const wanted = (contender: Contender): boolean =>
      contender.name.toLowerCase().includes(setting.only.toLowerCase());
    return {
      contenders: all.filter(wanted),
      launcher,
      client,
      archiveWith,
      async [Symbol.asyncDispose]() {
        await archiveWith(null);
        await client.end();
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Waits until nothing is left to archive. @source access/transam/xlogarchive.c: `.ready` files */
export async function archiverIdle(dataDirectory: string, timeoutMs = 120_000): Promise<void> {
  const queue = join(dataDirectory, 'pg_wal', 'archive_status');
  for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += 50) {
    if (!(await readdir(queue)).some(name => name.endsWith('.ready'))) return;
    await sleep(50);
  }
  throw new Error('the server does not get its log archived: see server.log in the directory of the run');
}

/** Every contender in every round, in turns, another one first each time: so that a slow minute meets them all. */
export async function alternate(
  setting: Setting,
  contenders: readonly Contender[],
  run: (
    contender: Contender,
    round: number,
  ) => Promise<{ measured: Measurement; storedBytes: number | null }>,
): Promise<Row[]> {
  const rows = contenders.map(contender => ({
    name: contender.name,
    rounds: [] as Measurement[],
    storedBytes: null as number | null,
  }));
  for (let round = 0; round < setting.rounds; round += 1) {
    for (let turn = 0; turn < contenders.length; turn += 1) {
      const index = (round + turn) % contenders.length;
      const [contender, row] = [contenders[index], rows[index]];
      if (contender === undefined || row === undefined) continue;
      const { measured, storedBytes } = await run(contender, round);
      setting.say(`round ${round + 1}: ${contender.name} ${(measured.wallMs / 1000).toFixed(2)} s`);
      row.rounds.push(measured);
      row.storedBytes = storedBytes;
    }
  }
  return rows;
}
