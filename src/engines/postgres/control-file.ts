import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, fileError } from '../../base/errors.ts';
import { crc32c } from './crc32c.ts';
import { isSegmentSize } from './lsn.ts';
import { isBlockSize } from './page-checksum.ts';

/** What a data directory says of itself in `global/pg_control`. */
export interface ControlFile {
  /** Made at initdb, kept for life; equal on a server and its physical copies. Decimal, as SQL shows it. */
  readonly systemIdentifier: string;
  readonly majorVersion: 14 | 15 | 16 | 17 | 18;
  readonly pgControlVersion: number;
  readonly catalogVersion: number;
  readonly state: ClusterState;
  /** When the file was last written, in seconds since 1970. */
  readonly modifiedAtSeconds: number;
  readonly checkpoint: Checkpoint;
  /** How far a recovery must come before the data is consistent; 0 outside of one. */
  readonly minRecoveryLsn: bigint;
  readonly minRecoveryTimeline: number;
  /** Where the base backup that is being recovered started; 0 when there is none, or its end was passed. */
  readonly backupStartLsn: bigint;
  /** Where a backup taken from a standby ended; 0 when there is none, or it was passed. */
  readonly backupEndLsn: bigint;
  readonly backupEndRequired: boolean;
  readonly walLevel: 'minimal' | 'replica' | 'logical';
  readonly walLogHints: boolean;
  /** A recovery refuses to run with any of these settings lower than here. */
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedTransactions: number;
  readonly maxLocksPerTransaction: number;
  readonly trackCommitTimestamp: boolean;
  readonly blockSize: number;
  /** Pages per file of a relation. */
  readonly relationSegmentBlocks: number;
  readonly walBlockSize: number;
  readonly walSegmentSize: number;
  readonly dataChecksums: boolean;
}

/** The words of pg_controldata. @source bin/pg_controldata/pg_controldata.c, dbState */
const clusterStates = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
] as const;
export type ClusterState = (typeof clusterStates)[number];

/** A checkpoint: as the control file keeps the latest one, and as its log record holds it. */
export interface Checkpoint {
  /** Where its record starts in the log. */
  readonly lsn: bigint;
  /** Where a recovery from it starts to read. */
  readonly redoLsn: bigint;
  readonly timeline: number;
  readonly previousTimeline: number;
  readonly fullPageWrites: boolean;
  /** With its epoch, 64 bits. */
  readonly nextXid: bigint;
  readonly nextOid: number;
  readonly oldestXid: number;
  readonly oldestActiveXid: number;
  readonly timeSeconds: number;
}

const PG_CONTROL_BYTES = 512;

/**
 * Where the CRC is, by format. Formats 1300 and 1700 are laid out alike; 1800 has one more byte,
 * default_char_signedness, before the nonce.
 * @source catalog/pg_control.h, ControlFileData, of PostgreSQL 14 to 18
 */
const crcOffsets = new Map([
  [1300, 288],
  [1700, 288],
  [1800, 292],
]);

/** @source catalog/catversion.h of each release; it never changes within a major version */
const majorVersions = new Map<number, ControlFile['majorVersion']>([
  [202107181, 14],
  [202209061, 15],
  [202307071, 16],
  [202406281, 17],
  [202506291, 18],
]);

const READ_ATTEMPTS = 10;
const RETRY_DELAY_MS = 10;

/**
 * Reads the control file of a data directory, also while its server runs.
 * @throws FILE_FAILED CORRUPT ENGINE_VERSION
 */
export async function readControlFile(dataDirectory: string): Promise<ControlFile> {
  const path = join(dataDirectory, 'global', 'pg_control');
  for (let attempt = 1; ; attempt += 1) {
    let bytes: Uint8Array;
    try {
      bytes = await readFile(path);
    } catch (error) {
      throw fileError('read', path, error);
    }
    try {
      return parseControlFile(bytes, path);
    } catch (error) {
      // A running server writes the file while we read it, and nothing makes the two exclude each other. The server's
      // own programs read it again as well (common/controldata_utils.c).
      if (attempt === READ_ATTEMPTS || !(error instanceof AppError && error.code === 'CORRUPT')) throw error;
      await sleep(RETRY_DELAY_MS);
    }
  }
}

/**
 * Reads a control file's bytes; `name` is what messages call it.
 * @throws CORRUPT when it is cut off, its CRC is wrong, or it holds what cannot be
 * @throws ENGINE_VERSION when it is not of PostgreSQL 14 to 18, or of a machine of the other byte order
 * @source catalog/pg_control.h, ControlFileData
 */
export function parseControlFile(bytes: Uint8Array, name = 'pg_control'): ControlFile {
  if (bytes.length < PG_CONTROL_BYTES) {
    throw corrupt(name, `it has ${bytes.length} bytes, too few for a control file`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, PG_CONTROL_BYTES);
  const u32 = (at: number): number => view.getUint32(at, true);
  const u64 = (at: number): bigint => view.getBigUint64(at, true);

  // Before the CRC, because in another format the CRC is elsewhere.
  const pgControlVersion = u32(8);
  const catalogVersion = u32(12);
  const crcOffset = crcOffsets.get(pgControlVersion);
  if (crcOffset === undefined) throw unknownVersion(name, pgControlVersion);
  if (crc32c(bytes, 0, crcOffset) !== u32(crcOffset)) throw corrupt(name, 'its CRC is wrong');
  const majorVersion = majorVersions.get(catalogVersion);
  if (majorVersion === undefined) {
    throw new AppError(
      'ENGINE_VERSION',
      `unable to read '${name}': catalog version ${catalogVersion} is not known`,
      {
        hint: 'Supported are the releases of PostgreSQL 14 to 18, not their betas, and no forks with catalogs of their own.',
      },
    );
  }

  const control: ControlFile = {
    systemIdentifier: u64(0).toString(),
    majorVersion,
    pgControlVersion,
    catalogVersion,
    state: clusterStates[u32(16)] ?? impossible(name, 'state', u32(16)),
    modifiedAtSeconds: Number(view.getBigInt64(24, true)),
    checkpoint: parseCheckpoint(view, 40, u64(32)),
    minRecoveryLsn: u64(136),
    minRecoveryTimeline: u32(144),
    backupStartLsn: u64(152),
    backupEndLsn: u64(160),
    backupEndRequired: view.getUint8(168) !== 0,
    walLevel:
      (['minimal', 'replica', 'logical'] as const)[u32(172)] ?? impossible(name, 'wal_level', u32(172)),
    walLogHints: view.getUint8(176) !== 0,
    maxConnections: u32(180),
    maxWorkerProcesses: u32(184),
    maxWalSenders: u32(188),
    maxPreparedTransactions: u32(192),
    maxLocksPerTransaction: u32(196),
    trackCommitTimestamp: view.getUint8(200) !== 0,
    blockSize: u32(216),
    relationSegmentBlocks: u32(220),
    walBlockSize: u32(224),
    walSegmentSize: u32(228),
    dataChecksums: u32(252) !== 0,
  };
  if (!isBlockSize(control.blockSize)) impossible(name, 'block size', control.blockSize);
  if (!isSegmentSize(control.walSegmentSize)) impossible(name, 'segment size', control.walSegmentSize);
  return control;
}

/**
 * Reads the checkpoint at `at`; its record is at `lsn`. The fields read here are laid out alike in PostgreSQL 14 to 18.
 * @source catalog/pg_control.h, CheckPoint
 */
export function parseCheckpoint(view: DataView, at: number, lsn: bigint): Checkpoint {
  return {
    lsn,
    redoLsn: view.getBigUint64(at, true),
    timeline: view.getUint32(at + 8, true),
    previousTimeline: view.getUint32(at + 12, true),
    fullPageWrites: view.getUint8(at + 16) !== 0,
    nextXid: view.getBigUint64(at + 24, true),
    nextOid: view.getUint32(at + 32, true),
    oldestXid: view.getUint32(at + 44, true),
    timeSeconds: Number(view.getBigInt64(at + 64, true)),
    oldestActiveXid: view.getUint32(at + 80, true),
  };
}

function corrupt(name: string, why: string): AppError {
  return new AppError('CORRUPT', `unable to read '${name}': ${why}`, {
    hint: 'The file is damaged, or is no control file of PostgreSQL; the latest backup holds a good one.',
  });
}

function impossible(name: string, field: string, value: number): never {
  throw corrupt(name, `its ${field} cannot be ${value}`);
}

function unknownVersion(name: string, version: number): AppError {
  // The versions are small numbers, so one with nothing in its low half was written in the other byte order.
  const swapped = version !== 0 && version % 0x10000 === 0;
  return new AppError(
    'ENGINE_VERSION',
    `unable to read '${name}': ${swapped ? 'it was written on a machine of the other byte order' : `format ${version} is not known`}`,
    { hint: 'Supported are PostgreSQL 14 to 18 on little-endian machines.' },
  );
}
