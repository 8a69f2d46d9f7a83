import type { ModelSettings } from '../explain/model-settings.ts';
import type { AlertPolicy } from '../notify/alert-policy.ts';
import type { ChannelSettings } from '../notify/channel.ts';
import type { CompressionLevel } from '../repository/compression.ts';
import type { BackupType } from '../repository/manifest.ts';

/** aishell.yaml, checked and frozen. */
export interface Config {
  /** Absolute path of the file. */
  readonly file: string;
  readonly instances: ReadonlyMap<string, InstanceConfig>;
  readonly repository: RepositoryConfig;
  readonly backup: BackupConfig;
  readonly emergency: EmergencyConfig;
  readonly agent: AgentConfig;
  readonly notifications: NotificationsConfig;
  /** What puts reports into words; null: this program itself. */
  readonly ai: ModelSettings | null;
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
  /** The replication slot the agent streams from; null: `aishell_<name>`. */
  readonly slot: string | null;
  /** How long a recovery may take; null: nobody has said. */
  readonly recoveryTimeObjectiveSeconds: number | null;
  /** What a minute without it costs; null: nobody has said. */
  readonly downtimeCost: { readonly perMinute: number; readonly currency: string } | null;
  readonly watch: WatchConfig;
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

export interface AgentConfig {
  /** Where received log lies until it is archived; null: below the state directory of the user. */
  readonly spool: string | null;
  readonly spoolLimitBytes: number;
  /** What was received is archived so many seconds later at the latest, though its segment is not full. */
  readonly archiveTimeoutSeconds: number;
  /** Commits wait until the agent has them on its disk. */
  readonly synchronous: boolean;
  /** Commits stop to wait for an agent that has not been well for so long. */
  readonly synchronousTimeoutSeconds: number;
}

/** What happens in an emergency; docs/emergency.md. */
export interface EmergencyConfig {
  readonly level: 'soft' | 'hard' | 'strict';
  readonly controlDatabase: string | null;
  readonly maintenanceFile: string | null;
  /** Null: a folder of the user's own, or of the system for root. */
  readonly stateDirectory: string | null;
  readonly backup: boolean;
  readonly hooks: readonly {
    readonly command: string;
    readonly when: 'before' | 'after' | null;
    readonly step: string | null;
    readonly timeoutMs: number;
  }[];
}

/** How the agent notices disasters, and what it does about them; docs/detection.md. */
export interface WatchConfig {
  readonly enabled: boolean;
  readonly policy: 'alert' | 'hold' | 'cancel';
  readonly rows: number;
  /** 0 to 1; null: no part of a table is too large. */
  readonly share: number | null;
  readonly shareRows: number;
  readonly lostTableRows: number;
  readonly rate: boolean;
  readonly tables: readonly ({ readonly table: string } & WatchLimits)[];
  readonly roles: readonly ({ readonly role: string } & WatchLimits)[];
  readonly allow: readonly {
    readonly tables: readonly string[];
    readonly roles: readonly string[];
    readonly applications: readonly string[];
    /** Minutes of the day, in UTC. */
    readonly between: { readonly fromMinute: number; readonly toMinute: number } | null;
  }[];
  readonly holdForMs: number;
  readonly holdLimitBytes: number;
  readonly showQuery: boolean;
}

interface WatchLimits {
  readonly rows: number | null;
  /** Left out: as for all others. */
  readonly share?: number | null;
  readonly policy: WatchConfig['policy'] | null;
}

/** How people are told, and who is told what; docs/notifications.md. */
export interface NotificationsConfig {
  readonly channels: readonly ChannelSettings[];
  readonly policy: AlertPolicy;
  /** Where undelivered notifications are kept; null: below the state directory of the user. */
  readonly directory: string | null;
}
