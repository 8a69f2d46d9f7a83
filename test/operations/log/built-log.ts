import { encodeSummary } from '../../../src/engines/postgres/segment-summary-stored.ts';
import { summarizeSegment } from '../../../src/engines/postgres/summarize-segment.ts';
import { logTransactions } from '../../../src/operations/log/log-transactions.ts';
import { type LogView, openLogView } from '../../../src/operations/log/log-view.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import { putLogSummary } from '../../../src/repository/log-summary.ts';
import { buildWal, type RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

export const MIB = 1024 * 1024;
export const START = BigInt(2 * MIB);
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
export const BEGIN = 1_761_573_600_000_000n;
const { signal } = new AbortController();

/** The log of these records, with or without the summaries of its segments; `read` counts how often each was read. */
export async function logOf(records: readonly RecordToBuild[], summarised = false) {
  const repository = memoryRepository();
  const { systemIdentifier } = owner;
  const options = { segmentSize: MIB, systemIdentifier };
  const wal = buildWal({
    ...options,
    startLsn: START,
    records,
    systemIdentifier: BigInt(systemIdentifier),
  });
  const segments = Math.ceil(wal.bytes.length / MIB);
  for (let index = 0; index < segments; index += 1) {
    const bytes = new Uint8Array(MIB);
    bytes.set(wal.bytes.subarray(index * MIB, (index + 1) * MIB));
    const lsn = START + BigInt(index * MIB);
    const name = `00000001${'0'.repeat(8)}${(2 + index).toString(16).toUpperCase().padStart(8, '0')}`;
    await putLogFile(repository, { ...owner, name, bytes, level: 1 });
    if (!summarised) continue;
    const summary = encodeSummary(summarizeSegment(bytes, { ...options, lsn }));
    await putLogSummary(repository, { ...owner, name, bytes: summary }, { signal });
  }
  const source = { owner, segmentSize: MIB, timeline: 1, backupTimelines: [1] };
  const opened = await openLogView(repository, source, signal);
  const read = new Map<bigint, number>();
  const view: LogView = {
    ...opened,
    read: lsn => {
      read.set(lsn, (read.get(lsn) ?? 0) + 1);
      return opened.read(lsn);
    },
  };
  const to = START + BigInt(segments * MIB);
  return {
    log: logTransactions({ repository, view }, { from: START, to }, signal),
    repository,
    view,
    read,
    to,
    built: wal.records,
  };
}
