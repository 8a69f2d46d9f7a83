import { withConnection } from '../../engines/postgres/connection.ts';
import { listDataFiles } from '../../engines/postgres/data-files.ts';
import { readFlushedLsn } from '../../engines/postgres/log-position.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { BackupFacts, BackupType } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { InstanceAnalysis } from './analyze-instance.ts';
import { Reservoir, readSample } from './estimate.ts';
import type { SourceFile } from './file-assembler.ts';
import { type Increment, openIncrement } from './increment.ts';
import { chosenByPosition } from './page-selection.ts';
import { rangeBytes } from './ranges.ts';

/** What a differential or incremental backup would read and store. */
export interface IncrementEstimate {
  readonly type: BackupType;
  /** Null: it would be a full one. */
  readonly parent: string | null;
  /** Why it would be a full one, or why the log does not say what changed. */
  readonly reason: string | null;
  readonly changesBy: BackupFacts['changesBy'] | null;
  readonly readBytes: number;
  /** Of these, what would be stored, before compression. */
  readonly newBytes: number;
  readonly newPages: number;
  readonly storedBytes: number;
}

const SAMPLES = 48;

/** Finds out, without changing anything, what an incremental backup would cost now. */
export async function estimateIncrement(
  context: InstanceContext,
  wanted: { readonly type: Exclude<BackupType, 'full'>; readonly analysis: InstanceAnalysis },
  signal: AbortSignal,
): Promise<IncrementEstimate> {
  const { type, analysis } = wanted;
  const { facts, dataDirectory, summary } = analysis;
  const lsn = await withConnection(context.connection, { signal }, client => readFlushedLsn(client, signal));
  const opened = await openIncrement(context, { type, server: { ...facts, lsn }, dataDirectory }, signal);
  if ('reason' in opened) {
    const all = { readBytes: summary.fileBytes, newBytes: summary.fileBytes };
    return { type: 'full', parent: null, reason: opened.reason, changesBy: null, ...costOf(analysis, all) };
  }
  await using increment = opened.increment;
  const found = await addUp(increment, analysis, signal);
  return {
    type,
    parent: increment.parent.backup.id,
    reason: increment.why,
    changesBy: increment.changes.by,
    ...costOf(analysis, found),
  };
}

interface Bytes {
  readonly readBytes: number;
  readonly newBytes: number;
}

function costOf(
  { facts, summary }: InstanceAnalysis,
  { readBytes, newBytes }: Bytes,
): Bytes & Pick<IncrementEstimate, 'newPages' | 'storedBytes'> {
  const share = summary.fileBytes === 0 ? 0 : summary.estimate.storedBytes / summary.fileBytes;
  return {
    readBytes,
    newBytes,
    newPages: Math.round(newBytes / facts.blockSize),
    storedBytes: Math.round(newBytes * share),
  };
}

async function addUp(increment: Increment, analysis: InstanceAnalysis, signal: AbortSignal): Promise<Bytes> {
  let readBytes = 0;
  let newBytes = 0;
  let askedBytes = 0;
  const samples = new Reservoir<SourceFile>(SAMPLES);
  for await (const entry of listDataFiles(analysis.dataDirectory, { ...analysis.listing, signal })) {
    if (entry.kind !== 'file') continue;
    const { path, source, sizeBytes, mode, relation } = entry;
    const plain = { path, source, sizeBytes, mode, firstBlock: relation?.firstBlock ?? null };
    const file = await increment.changesOf(entry, plain);
    if (file.changes === undefined) {
      readBytes += sizeBytes;
      newBytes += sizeBytes;
    }
    for (const { length, selection } of file.changes?.parts ?? []) {
      const certain =
        selection.kind === 'content'
          ? Math.min(length, selection.hashes.filter(each => each === null).length * FRAME_BODY_BYTES)
          : rangeBytes(selection.ranges);
      readBytes += selection.kind === 'ranges' ? certain : length;
      if (selection.kind === 'since') askedBytes += length;
      else newBytes += certain;
      if (selection.kind === 'since') samples.add(file, length);
    }
  }
  const changed = askedBytes * (await sampleChanged(samples.items, increment, analysis.facts.blockSize));
  return { readBytes, newBytes: Math.round(newBytes + changed) };
}

/** The share of pages that changed, from a sample of all files. */
async function sampleChanged(
  files: readonly SourceFile[],
  { changes }: Increment,
  blockSize: number,
): Promise<number> {
  if (changes.by === 'log') return 0;
  let seen = 0;
  let changed = 0;
  const buffer = new Uint8Array(FRAME_BODY_BYTES);
  for (const { source, sizeBytes, firstBlock } of files) {
    const room = Math.max(0, sizeBytes - FRAME_BODY_BYTES);
    const offset = Math.floor((Math.random() * room) / FRAME_BODY_BYTES) * FRAME_BODY_BYTES;
    const length = Math.min(FRAME_BODY_BYTES, sizeBytes);
    const read = await readSample({ path: String(source), offset, length }, buffer);
    const window = { buffer: read, length: read.length, offset };
    const block = (firstBlock ?? 0) + offset / blockSize;
    seen += read.length;
    for (const [, bytes] of chosenByPosition(window, { ...changes, blockSize, firstBlock: block }))
      changed += bytes;
  }
  return seen === 0 ? 0 : changed / seen;
}
