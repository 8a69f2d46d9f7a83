import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { type ControlFile, readControlFile } from '../../src/engines/postgres/control-file.ts';
import { formatLsn } from '../../src/engines/postgres/lsn.ts';
import { debianProgram } from '../support/debian-postgres.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';

async function factsBySql(cluster: TestCluster): Promise<Record<string, unknown>> {
  const [row] = await cluster.query<{ facts: Record<string, unknown> }>(`
    select (to_jsonb(s) || to_jsonb(c) || to_jsonb(i) || to_jsonb(r) || jsonb_build_object(
        'system', s.system_identifier::text, 'checkpoint_epoch', extract(epoch from c.checkpoint_time)::bigint)) as facts
    from pg_control_system() s, pg_control_checkpoint() c, pg_control_init() i, pg_control_recovery() r`);
  return row!.facts;
}

function asSql(control: ControlFile): Record<string, unknown> {
  const { checkpoint } = control;
  return {
    system: control.systemIdentifier,
    pg_control_version: control.pgControlVersion,
    catalog_version_no: control.catalogVersion,
    checkpoint_lsn: formatLsn(checkpoint.lsn),
    redo_lsn: formatLsn(checkpoint.redoLsn),
    timeline_id: checkpoint.timeline,
    prev_timeline_id: checkpoint.previousTimeline,
    full_page_writes: checkpoint.fullPageWrites,
    next_xid: `${checkpoint.nextXid >> 32n}:${checkpoint.nextXid & 0xffffffffn}`,
    next_oid: String(checkpoint.nextOid),
    oldest_xid: String(checkpoint.oldestXid),
    oldest_active_xid: String(checkpoint.oldestActiveXid),
    checkpoint_epoch: checkpoint.timeSeconds,
    database_block_size: control.blockSize,
    blocks_per_segment: control.relationSegmentBlocks,
    wal_block_size: control.walBlockSize,
    bytes_per_wal_segment: control.walSegmentSize,
    data_page_checksum_version: control.dataChecksums ? 1 : 0,
    min_recovery_end_lsn: formatLsn(control.minRecoveryLsn),
    min_recovery_end_timeline: control.minRecoveryTimeline,
    backup_start_lsn: formatLsn(control.backupStartLsn),
    backup_end_lsn: formatLsn(control.backupEndLsn),
    end_of_backup_record_required: control.backupEndRequired,
  };
}

test.for([
  { version: 14, checksums: false, walSegmentSizeMb: 1 },
  { version: 15, checksums: true, walSegmentSizeMb: 16 },
  { version: 16, checksums: false, walSegmentSizeMb: 64 },
  { version: 17, checksums: true, walSegmentSizeMb: 1 },
  { version: 18, checksums: true, walSegmentSizeMb: 32 },
] as const)(
  'PostgreSQL $version, segments of $walSegmentSizeMb MB - what its own SQL says',
  async options => {
    const settings = {
      wal_level: 'logical',
      wal_log_hints: 'on',
      max_connections: 33,
      max_worker_processes: 9,
      max_wal_senders: 7,
      max_prepared_transactions: 3,
      max_locks_per_transaction: 65,
      track_commit_timestamp: 'on',
      full_page_writes: 'off',
      max_wal_size: '1GB',
    };
    await using cluster = await startTestCluster({ ...options, settings });
    await cluster.query('create table t as select generate_series(1, 10000)');
    await cluster.query('checkpoint');
    const control = await readControlFile(cluster.dataDirectory);
    const sql = await factsBySql(cluster);
    expect(sql).toMatchObject(asSql(control));
    expect(control).toMatchObject({
      majorVersion: options.version,
      state: 'in production',
      walLevel: 'logical',
      walLogHints: true,
      maxConnections: 33,
      maxWorkerProcesses: 9,
      maxWalSenders: 7,
      maxPreparedTransactions: 3,
      maxLocksPerTransaction: 65,
      trackCommitTimestamp: true,
      dataChecksums: options.checksums,
      walSegmentSize: options.walSegmentSizeMb << 20,
    });
    await cluster.stop('fast');
    expect((await readControlFile(cluster.dataDirectory)).state).toBe('shut down');
  },
);

test('read again and again while checkpoints rewrite it - whole every time', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const traffic = await loadTraffic(cluster, { clients: 1 });
  const client = await cluster.connect();
  let done = false;
  const checkpoints = (async () => {
    for (let count = 0; count < 30; count += 1) await client.query('checkpoint');
    done = true;
  })();
  const seen = new Set<bigint>();
  while (!done) seen.add((await readControlFile(cluster.dataDirectory)).checkpoint.lsn);
  await checkpoints;
  await traffic.stop();
  expect(seen.size).toBeGreaterThan(3);
});

test('PostgreSQL 15 - what pg_controldata says', async context => {
  const controldata = debianProgram(context, 'pg_controldata');
  await using cluster = await startTestCluster({ version: 15 });
  for (const state of ['in production', 'shut down'] as const) {
    if (state === 'shut down') await cluster.stop('fast');
    const control = await readControlFile(cluster.dataDirectory);
    const { stdout } = await promisify(execFile)(controldata, ['-D', cluster.dataDirectory], {
      env: { LC_ALL: 'C' },
    });
    const said = Object.fromEntries(stdout.split('\n').map(line => line.split(/:\s+/)));
    expect(said).toMatchObject({
      'Database cluster state': state,
      'Database system identifier': control.systemIdentifier,
      'Latest checkpoint location': formatLsn(control.checkpoint.lsn),
      "Latest checkpoint's REDO location": formatLsn(control.checkpoint.redoLsn),
      "Latest checkpoint's NextOID": String(control.checkpoint.nextOid),
      'wal_level setting': control.walLevel,
      'max_connections setting': String(control.maxConnections),
      'Bytes per WAL segment': String(control.walSegmentSize),
    });
    expect(control.state).toBe(state);
  }
});
