import type { CompressionLevel } from '../repository/compression.ts';
import type { BackupType } from '../repository/manifest.ts';

/** aishell.yaml, checked and frozen. */
export interface Config {
  /** Absolute path of the file. */
  readonly file: string;
  readonly instances: ReadonlyMap<string, InstanceConfig>;
  readonly repository: RepositoryConfig;
  readonly backup: BackupConfig;
}

export interface InstanceConfig {
  readonly name: string;
  readonly engine: 'postgresql';
  /** A postgresql:// URL without a password. */
  readonly connection: string;
  /** Where it is kept, for resolveSecretRef. Null: none is sent, or the driver finds it in ~/.pgpass. */
  readonly password: string | null;
  /** Null: the server is asked. */
  readonly dataDirectory: string | null;
  /** The folder with postgres and pg_ctl; null: found from the running server. */
  readonly binaries: string | null;
  readonly service: ServiceConfig;
  /** How long a recovery may take; null: nobody has said. */
  readonly recoveryTimeObjectiveSeconds: number | null;
}

/** What starts and stops the server. */
export type ServiceConfig =
  | { readonly kind: 'auto' | 'pg_ctl' | 'pg_ctlcluster' }
  | { readonly kind: 'systemd'; readonly unit: string | null }
  | { readonly kind: 'commands'; readonly start: string; readonly stop: string };

export interface RepositoryConfig {
  /** A storage location: an absolute path or a file:// URL. */
  readonly storage: string;
  readonly key: RepositoryKeyConfig;
}

/** What opens the repository; the passphrase is where it is kept, for resolveSecretRef. */
export type RepositoryKeyConfig =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'passphrase'; readonly passphrase: string };

export interface BackupConfig {
  readonly compression: CompressionLevel;
  /** Null: as many as this machine has processors. */
  readonly workers: number | null;
  /** What `backup create` makes when it is not told. */
  readonly type: BackupType;
}
