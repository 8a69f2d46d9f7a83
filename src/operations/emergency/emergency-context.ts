import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import type { ServiceSetting } from '../../engines/postgres/service-contract.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { StopLevel } from './stop-record.ts';

/** A command that is run before or after steps of stopping and resuming. */
export interface EmergencyHook {
  /** Run by the shell. */
  readonly command: string;
  /** Null: both. */
  readonly when: 'before' | 'after' | null;
  /** Null: every step. */
  readonly step: string | null;
  readonly timeoutMs: number;
}

export interface EmergencySettings {
  /** Where records of what was changed are kept on this machine. */
  readonly stateDirectory: string;
  /** The database that stays open for this program at level hard; null: one without tables is looked for. */
  readonly controlDatabase: string | null;
  /** Null: there is no maintenance page. */
  readonly maintenanceFile: string | null;
  readonly hooks: readonly EmergencyHook[];
  /** Make a backup after every stop. */
  readonly backup: boolean;
  /** The level of a stop that names none. */
  readonly level: StopLevel;
}

/** What people are told of a stop, or of its end. */
export interface EmergencyNotice {
  readonly severity: 'info' | 'warning' | 'critical';
  /** One sentence. */
  readonly title: string;
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly commands: readonly { readonly title: string; readonly command: string }[];
  /** Of the stop that it is about. */
  readonly stop: string;
  readonly incident: string | null;
  /** It is over: told to those who heard of its beginning. */
  readonly isEnd: boolean;
}

/** Whom a notice reached. */
export interface NoticeOutcome {
  /** Names of channels. */
  readonly delivered: readonly string[];
  /** Sentences: what did not arrive, and why. */
  readonly problems: readonly string[];
}

/**
 * What an emergency works with. Other than everywhere else the repository may be out of reach: writes are stopped all the
 * same, and so it is opened only when it is asked for.
 */
export interface EmergencyContext {
  readonly instance: string;
  readonly connection: ConnectionSettings;
  /** Null: the server is asked. */
  readonly dataDirectory: string | null;
  readonly binaries: string | null;
  readonly service: ServiceSetting;
  readonly settings: EmergencySettings;
  readonly toolVersion: string;
  /** Tells people, as the configuration says; it never throws, and takes ten seconds at most. */
  tell(notice: EmergencyNotice): Promise<NoticeOutcome>;
  /** Opens the repository, once. @throws as openRepository */
  open(): Promise<InstanceContext>;
}
