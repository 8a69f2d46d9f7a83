import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/base/errors.ts';
import { findEmbedded, prepareEmbedded } from '../src/engines/postgres/embedded-binaries.ts';
import {
  chooseServerUser,
  stopProcessesUnder,
  temporaryParent,
} from '../src/engines/postgres/embedded-process.ts';
import { benchArchive } from './archive.ts';
import { prepareDataSet } from './data-set.ts';
import { benchDisaster } from './disaster.ts';
import { removeTree } from './files.ts';
import { benchHarden } from './harden.ts';
import { benchIncremental } from './incremental.ts';
import { findPgbackrest } from './peers/pgbackrest.ts';
import { benchPitr } from './pitr.ts';
import { benchRewind } from './rewind.ts';
import { benchBackup, benchRestore, benchWalArchive } from './scenarios.ts';
import { prepareShop } from './shop-data.ts';
import type { Setting } from './stage.ts';
import { benchStopWrites } from './stop-writes.ts';
import { benchStream } from './stream.ts';
import { benchUndo } from './undo.ts';
import { benchUndoShop } from './undo-shop.ts';
import { benchWal } from './wal.ts';

const HELP = `usage: npm run bench -- backup|restore|wal-archive|archive|pitr|incremental|rewind|stream|wal|stop-writes|disaster|harden|undo|undo-shop [options]

  --size 2GB          size of the databases; MB or GB (archive: 1GB; pitr, incremental, undo-shop: 5GB; rewind: 250MB and multiples)
  --rounds 3          how often each contender runs, in turns; medians count
  --work-dir DIR      where the data set is kept between runs (default: aishell-bench in the temporary directory)
  --pgbackrest FILE   the pgBackRest to compare with (default: bench/peers/install-pgbackrest.sh's, then Debian's)
  --only NAME         only contenders whose name holds this: aishell, zstd, pgbackrest
  --keep              keep repositories and restored directories of this run`;

interface Scenario {
  readonly run: (setting: Setting) => Promise<void>;
  /** Makes the data set of that size, unless it is there. */
  readonly prepare: typeof prepareDataSet;
  /** Tells data sets apart. */
  readonly dataSet: string;
  readonly size: string;
}

const mixed = { prepare: prepareDataSet, dataSet: '', size: '2GB' };
const shop = { prepare: prepareShop, dataSet: 'shop-', size: '5GB' };
/** It makes a server of its own. */
const none = { prepare: async () => undefined, dataSet: '', size: '0MB' };
const SCENARIOS: Readonly<Record<string, Scenario>> = {
  backup: { ...mixed, run: benchBackup },
  restore: { ...mixed, run: benchRestore },
  'wal-archive': { ...mixed, run: benchWalArchive },
  archive: { ...shop, size: '1GB', run: benchArchive },
  pitr: { ...shop, run: benchPitr },
  incremental: { ...shop, run: benchIncremental },
  // Databases of their own, of that size and of multiples of it.
  rewind: { ...none, size: '250MB', run: benchRewind },
  'stop-writes': { ...none, run: benchStopWrites },
  harden: { ...none, run: benchHarden },
  disaster: { ...none, run: benchDisaster },
  undo: { ...none, run: benchUndo },
  'undo-shop': { ...shop, run: benchUndoShop },
  wal: { ...none, run: benchWal },
  // It makes its own server, with nothing in it.
  stream: { ...none, run: benchStream },
};

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      size: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      'work-dir': { type: 'string' },
      pgbackrest: { type: 'string' },
      only: { type: 'string', default: '' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const scenario = SCENARIOS[positionals[0] ?? ''];
  if (values.help || scenario === undefined || positionals.length !== 1) {
    console.log(HELP);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const sizeBytes = parseSize(values.size ?? scenario.size);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`unable to read '--rounds ${values.rounds}'`);

  // Everything made here is for the server's account to read; root's own umask may be narrower.
  process.umask(0o022);
  const user = await chooseServerUser();
  const workDirectory = values['work-dir'] ?? join(await temporaryParent(user), 'aishell-bench');
  await mkdir(workDirectory, { recursive: true });
  const found = await findPgbackrest(values.pgbackrest);
  const version = found?.postgres ?? 18;
  const packageDirectory = await findEmbedded(version);
  if (packageDirectory === null) throw new Error(`PostgreSQL ${version} is missing: 'npm ci' brings it`);
  const binaries = await prepareEmbedded({ packageDirectory, user, directory: workDirectory });
  const dataDirectory = join(workDirectory, `pg${version}-${scenario.dataSet}${sizeBytes}`, 'data');

  const runDirectory = await mkdtemp(join(workDirectory, 'run-'));
  await chmod(runDirectory, 0o755);
  if (user !== null) await chown(runDirectory, user.uid, user.gid);
  const interrupted = (): void => {
    void stopProcessesUnder(runDirectory)
      .then(() => stopProcessesUnder(dataDirectory))
      .then(() => removeRun(runDirectory, values.keep))
      .finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await scenario.prepare({ binaries, user, dataDirectory, runDirectory }, sizeBytes, say);
    const setting: Setting = {
      binaries,
      user,
      dataDirectory,
      runDirectory,
      rounds,
      sizeBytes,
      found,
      only: values.only,
      say,
    };
    await scenario.run(setting);
  } finally {
    await removeRun(runDirectory, values.keep);
  }
}

async function removeRun(runDirectory: string, keep: boolean): Promise<void> {
  await stopProcessesUnder(runDirectory);
  if (keep && existsSync(runDirectory)) say(`kept ${runDirectory}`);
  else await removeTree(runDirectory);
}

function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(MB|GB)$/i.exec(text);
  if (match === null) throw new Error(`unable to read '--size ${text}': write it like 500MB or 2GB`);
  return Math.round(Number(match[1]) * (match[2]?.toUpperCase() === 'GB' ? 1e9 : 1e6));
}

/** Progress goes beside the report, which alone is printed to standard output. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

await main().catch((error: unknown) => {
  console.error(`bench: ${messageOf(error)}`);
  process.exitCode = 1;
});
