import type { OnEvent } from '../base/events.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import type { ServiceSetting } from '../engines/postgres/service-contract.ts';
import type { CompressionLevel } from '../repository/compression.ts';
import type { BackupType } from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import type { StorageLocation } from '../storage/storage.ts';

/** What an operation on one instance works with; built in `app/` from a configuration. */
export interface InstanceContext {
  readonly instance: string;
  readonly repository: Repository;
  /** The repository's location as plain data: worker threads open their own storage from it. */
  readonly location: StorageLocation;
  readonly connection: ConnectionSettings;
  /** Null: the server is asked. */
  readonly dataDirectory: string | null;
  /** The directory of the server's programs; null: looked for. */
  readonly binaries: string | null;
  readonly service: ServiceSetting;
  readonly level: CompressionLevel;
  readonly workers: number;
  /** What a backup is when nobody says it. */
  readonly backupType: BackupType;
  readonly toolVersion: string;
  /** How long a recovery may take; null: nobody has said. */
  readonly recoveryTimeObjectiveSeconds: number | null;
  /** Where this user's programs keep what they find out about this machine; null: nowhere. */
  readonly stateDirectory: string | null;
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}
