/** The content of manifests; docs/format.md, "Manifests". */

/**
 * `length` bytes of a file: from byte `start` of the body of frame `number` of pack number `pack`. The frame is `stored`
 * bytes at `offset` of the pack object, `raw` bytes when opened; `hash` is of its whole body.
 */
export type Chunk = readonly [
  length: number,
  pack: number,
  number: number,
  offset: number,
  stored: number,
  raw: number,
  start: number,
  hash: string,
];

export interface FileLine {
  readonly t: 'file';
  /** Relative to the data directory, `/` between segments. */
  readonly p: string;
  readonly s: number;
  readonly m: number;
  readonly c: readonly Chunk[];
}

/** A configuration file that lay outside the data directory; `p` is its path below the directory of postgresql.conf. */
export interface ConfigLine extends Omit<FileLine, 't'> {
  readonly t: 'config';
  readonly source: string;
}

export interface DirLine {
  readonly t: 'dir';
  readonly p: string;
  readonly m: number;
}

export type ManifestLine = FileLine | ConfigLine | DirLine;

export interface PackFacts {
  /** 32 hex characters. */
  readonly id: string;
  /** The backup that wrote it. */
  readonly backup: string;
  readonly generation: number;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface TablespaceFacts {
  readonly oid: number;
  readonly name: string;
  readonly path: string;
}

/** A page whose checksum was wrong on the server's own disk when it was backed up. */
export interface DamagedPage {
  readonly path: string;
  readonly block: number;
}

/**
 * Full: everything copied anew. Differential: what changed since the newest full one; incremental: since the newest of
 * any kind. All of them are complete, so that none needs another's manifest.
 */
export type BackupType = 'full' | 'differential' | 'incremental';

/** What is known of one backup. Members are only ever added. */
export interface BackupFacts {
  readonly id: string;
  readonly name: string;
  readonly instance: string;
  readonly engine: 'postgresql';
  readonly type: BackupType;
  /** Of a differential or incremental backup: the backup that it refers to for what had not changed. */
  readonly parent?: string;
  /** How the changes since the parent were found: from the log, or from each page's own position. */
  readonly changesBy?: 'log' | 'page position';
  readonly toolVersion: string;
  readonly serverVersion: number;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: string;
  readonly stopLsn: string;
  readonly startTime: string;
  readonly stopTime: string;
  /** When the server itself was started: equal in two backups that one run of it has seen. */
  readonly serverStartTime?: string;
  readonly blockSize: number;
  readonly walSegmentSize: number;
  readonly relationSegmentBlocks: number;
  /** `PG_18_202506291`: the folder of this version within each tablespace. */
  readonly tablespaceVersionDirectory: string;
  /** The superuser that initdb made. */
  readonly bootstrapSuperuser: string;
  readonly pageChecksums: boolean;
  readonly dataDirectory: string;
  readonly tablespaces: readonly TablespaceFacts[];
  readonly databases: readonly string[];
  readonly tables: number;
  readonly indexes: number;
  readonly estimatedRows: number;
  /** Bytes of the files as read. */
  readonly sizeBytes: number;
  /** Bytes of the packs that this backup wrote. */
  readonly storedBytes: number;
  /** Bytes of the files that were copied anew; not known of backups made before there were incremental ones. */
  readonly newBytes?: number;
  readonly fileCount: number;
  readonly compression: string;
  readonly durationSeconds: number;
  /** The WAL from start to stop is among the files: restorable without the log archive. */
  readonly logIncluded: boolean;
  /** archive_mode was on: later points in time can be reached. */
  readonly logArchived: boolean;
  readonly damagedPages: readonly DamagedPage[];
}
