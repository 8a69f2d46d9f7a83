import { hash } from 'node:crypto';
import { AppError } from '../../base/errors.ts';
import { chunkAt, distinctFrames } from '../../repository/chunk-list.ts';
import type { Chunk } from '../../repository/manifest.ts';
import { type Manifest, openManifest, packedLines } from '../../repository/manifest-reader.ts';
import { findAbsentPack } from '../../repository/pack-presence.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { batchTasks, progressTeller, startRestorePool } from '../restore/restore-files.ts';
import type { ObjectProblem } from '../restore/restore-protocol.ts';

export interface SampleVerification {
  /** Packs that are there and of the right size: all of them. */
  readonly packs: number;
  readonly files: number;
  readonly frames: number;
  /** Frames fetched, opened, decompressed and compared with their hashes. */
  readonly sampledFrames: number;
  readonly sampledBytes: number;
}

const SAMPLE_SHARE = 0.01;
const SAMPLE_AT_LEAST = 20;
/** Until there are that many. */
const FIRST_SHARE = 0.2;

/**
 * Verifies a backup just taken, as it lies in the storage: the manifest's checksum, its whole content, the presence and
 * size of every pack, and a restored sample of one frame in a hundred.
 *
 * @throws CORRUPT, VERIFICATION_FAILED
 */
export async function verifySample(
  context: InstanceContext,
  backup: { readonly id: string; readonly manifestSha256: string },
  options: RunOptions,
): Promise<SampleVerification> {
  const { repository, instance } = context;
  const { signal } = options;
  const manifest = await openManifest(repository, { instance, id: backup.id }, { signal });
  if (manifest === null)
    throw new AppError('VERIFICATION_FAILED', `backup '${backup.id}' is not there although it was committed`);
  const problems: ObjectProblem[] = [];
  const count = { files: 0, frames: 0, sampledFrames: 0, sampledBytes: 0 };
  const onProgress = progressTeller(
    'verify',
    Math.ceil(manifest.backup.sizeBytes * SAMPLE_SHARE),
    options.onEvent,
  );
  const pool = startRestorePool(
    { ...context, manifest },
    message => {
      if (message.type === 'progress') onProgress(message.bytes);
      else problems.push(...message.problems);
    },
    signal,
  );
  const batches = batchTasks(pool);
  try {
    // The threads load meanwhile.
    await checkManifestHash(context, manifest, backup.manifestSha256);
    await checkPacksPresent(context, manifest, signal);
    for await (const line of packedLines(repository, manifest, { signal })) {
      if (line.t === 'dir') continue;
      count.files += 1;
      // Incremental backups cut a frame into many chunks; it is opened as a whole anyway.
      const frames = distinctFrames(line.chunks);
      count.frames += frames.count;
      const chunks: Chunk[] = [];
      for (const index of frames.first) {
        const share = count.sampledFrames + chunks.length < SAMPLE_AT_LEAST ? FIRST_SHARE : SAMPLE_SHARE;
        if (Math.random() < share) chunks.push(chunkAt(line.chunks, index));
      }
      if (chunks.length === 0) continue;
      const bytes = chunks.reduce((sum: number, chunk: Chunk) => sum + chunk[0], 0);
      count.sampledFrames += chunks.length;
      count.sampledBytes += bytes;
      await batches.add({ kind: 'check', path: line.p, chunks }, bytes);
    }
    await batches.flush();
    await pool.finish({ tasks: [] });
  } finally {
    await pool.terminate();
  }
  const [first] = problems;
  if (first !== undefined)
    throw new AppError('CORRUPT', first.message, {
      hint: 'The storage does not give back what it was given: check its disk.',
      details: { problems },
    });
  return { packs: manifest.packs.length, ...count };
}

/** @throws CORRUPT when a pack is missing or has another size than the manifest says */
export async function checkPacksPresent(
  context: Pick<InstanceContext, 'repository'>,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<void> {
  const absent = await findAbsentPack(context.repository, manifest, { signal });
  if (absent === null) return;
  const { path, what } = absent;
  throw new AppError(
    'CORRUPT',
    `object '${path}' ${what}: backup '${manifest.backup.id}' cannot be restored whole`,
    {
      hint: 'Run `aishell backup verify --all` to see what is affected, and restore from another backup.',
      details: { object: path },
    },
  );
}

async function checkManifestHash(
  context: InstanceContext,
  manifest: Manifest,
  expected: string,
): Promise<void> {
  // The manifest is small against the packs (about a thousandth); it was just read whole anyway.
  const bytes = await context.repository.storage.get(manifest.path);
  if (bytes !== null && hash('sha256', bytes, 'hex') === expected) return;
  throw new AppError(
    'CORRUPT',
    `object '${manifest.path}' is damaged: its bytes are not those that were written`,
    { details: { object: manifest.path } },
  );
}
