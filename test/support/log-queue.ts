import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { lockHolder } from '../../src/base/process-lock.ts';
import { lockFor } from '../../src/cli/hot/start-behind.ts';
import { parseKeyFile } from '../../src/crypto/key-slots.ts';
import { getLogFile } from '../../src/repository/log-archive.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/registry.ts';
import { type CliResult, runCli } from './cli.ts';
import { protect, type TestInstance } from './instance.ts';
import { startTestCluster, type TestCluster } from './postgres.ts';

/** What a call that may not start Node says when it would have to. */
export const NEEDS_NODE = { exitCode: 2, message: "there is no program '/nowhere/node'" };

/** A server with full segments that nobody archives: archive_command fails until a test does its work. */
export interface LogQueue extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly instance: TestInstance;
  /** Its pg_wal. */
  readonly log: string;
  /** Where notes for bin/aishell lie. */
  readonly notes: string;
  /** The segments of the queue, in order. */
  readonly segments: readonly string[];
  /** What archive_command runs for a segment; with a Node that is not there where none may be needed. */
  archive(
    segment: string,
    options?: {
      readonly config?: string;
      readonly withoutNode?: boolean;
      readonly env?: Readonly<Record<string, string>>;
    },
  ): Promise<CliResult>;
  /** The segments that are archived, in order. */
  archived(): Promise<string[]>;
  /** Whether the archive has a segment as the server has it; throws for one that does not open. */
  archivedAs(segment: string): Promise<'absent' | 'whole' | 'different'>;
  openRepository(): Promise<Repository>;
  /** As if nothing had been archived; what still archives ends before. */
  clear(): Promise<void>;
}

export async function startLogQueue(): Promise<LogQueue> {
  const cluster = await startTestCluster({
    version: 18,
    walSegmentSizeMb: 1,
    settings: { archive_mode: 'on', archive_command: 'exit 1', wal_keep_size: '200MB' },
  });
  const instance = await protect(cluster, { archiving: false });
  await cluster.query('create table noise (content bytea)');
  for (let part = 0; part < 10; part += 1) {
    await cluster.query(
      "insert into noise select string_agg(sha512((random() * 1e9)::text::bytea), '') from generate_series(1, 20000)",
    );
    await cluster.query('select pg_switch_wal()');
  }
  const log = join(cluster.dataDirectory, 'pg_wal');
  const cacheDirectory = join(inject('harness').home, '.cache', 'aishell');
  const notes = join(cacheDirectory, 'archived', log);
  const { configFile, name } = instance;
  const lock = lockFor('archive-ahead', { cacheDirectory, configFile, instance: name });
  const segments = (await readdir(join(log, 'archive_status')))
    .filter(name => /^[0-9A-F]{24}\.ready$/.test(name))
    .map(name => name.slice(0, 24))
    .sort();
  const open = async (): Promise<Repository> => {
    const key = parseKeyFile(await readFile(instance.init.keyFile!, 'utf8'), 'aishell.key');
    return await openRepository(openStorage({ kind: 'local', path: instance.repository }), key);
  };
  return {
    ...{ cluster, instance, log, notes, segments },
    archive: (segment, { config = instance.configFile, withoutNode = false, env = {} } = {}) =>
      runCli(['--config', config, 'backup', 'wal-archive', join(log, segment)], {
        env: { ...(withoutNode ? { AISHELL_NODE: '/nowhere/node' } : {}), ...env },
      }),
    archived: async () => (await instance.archivedLog()).filter(name => /^[0-9A-F]{24}$/.test(name)),
    async archivedAs(segment) {
      const owner = { instance: instance.name, systemIdentifier: instance.init.systemIdentifier };
      const bytes = await getLogFile(await open(), owner, segment);
      if (bytes === null) return 'absent';
      return Buffer.from(bytes).equals(await readFile(join(log, segment))) ? 'whole' : 'different';
    },
    openRepository: open,
    async clear() {
      while (lockHolder(lock) !== null) await sleep(20);
      await rm(notes, { recursive: true, force: true });
      await rm(join(instance.repository, 'instances', instance.name, 'log'), {
        recursive: true,
        force: true,
      });
    },
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}
