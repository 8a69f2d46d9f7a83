import { chmod, chown, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { startBaseBackup } from '../../src/engines/postgres/base-backup.ts';
import { connect } from '../../src/engines/postgres/connection.ts';
import { listDataFiles } from '../../src/engines/postgres/data-files.ts';
import { readServerFacts } from '../../src/engines/postgres/server-facts.ts';
import type { TestCluster } from './postgres.ts';

/** Settings for a cluster that archives into a directory of its own, `archive` beside its data directory. */
export const archiving = {
  archive_mode: 'on',
  archive_command: 'mkdir -p ../archive && test ! -f ../archive/%f && cp %p ../archive/%f',
};

/** The shell command that takes the log from there. */
export function restoreCommand(cluster: TestCluster): string {
  return `cp '${join(cluster.directory, 'archive')}/%f' "%p"`;
}

/** A physical copy of a running cluster, made with the engine's own parts and nothing else, ready to recover. */
export async function copyCluster(cluster: TestCluster, name: string): Promise<string> {
  const target = join(cluster.directory, name);
  const client = await connect(cluster.connection);
  try {
    const facts = await readServerFacts(client);
    const backup = await startBaseBackup(cluster.connection, { label: name, fastCheckpoint: true });
    await make(cluster, target);
    for await (const entry of listDataFiles(facts.dataDirectory, facts)) {
      const path = join(target, entry.path);
      if (entry.kind === 'directory') await make(cluster, path);
      if (entry.kind === 'file') await copy(cluster, entry.source, path);
    }
    await copy(cluster, join(facts.dataDirectory, 'global/pg_control'), join(target, 'global/pg_control'));
    const end = await backup.stop();
    await writeFile(join(target, 'backup_label'), end.labelFile);
    await writeFile(join(target, 'recovery.signal'), '');
    for (const file of ['backup_label', 'recovery.signal']) await own(cluster, join(target, file));
    return target;
  } finally {
    await client.end();
  }
}

async function make(cluster: TestCluster, path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o700);
  await own(cluster, path);
}

async function copy(cluster: TestCluster, source: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await copyFile(source, path);
  await own(cluster, path);
}

async function own(cluster: TestCluster, path: string): Promise<void> {
  if (cluster.user !== null) await chown(path, cluster.user.uid, cluster.user.gid);
}
