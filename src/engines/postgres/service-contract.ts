/** How the configuration says the server is started and stopped; `auto`: found out from the server and the machine. */
export type ServiceSetting =
  | { readonly kind: 'auto' | 'pg_ctl' | 'pg_ctlcluster' }
  /** `unit` null: the one that the running server belongs to. */
  | { readonly kind: 'systemd'; readonly unit: string | null }
  /** Run by the shell. */
  | { readonly kind: 'commands'; readonly start: string; readonly stop: string };

export interface StopOptions {
  /** `fast` (unless given): clients are disconnected, then a checkpoint is written. `immediate`: as if it crashed. */
  readonly mode?: 'fast' | 'immediate';
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface StartOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** What starts and stops the server of one data directory. */
export interface Service {
  readonly kind: 'pg_ctl' | 'pg_ctlcluster' | 'systemd' | 'commands';
  /** For people: `systemd unit postgresql@15-main.service`. */
  readonly description: string;
  /** Whether a server runs in the data directory, whoever started it. */
  isRunning(): Promise<boolean>;
  /** Resolves when the server is gone; fine when it was not running. @throws SERVICE_FAILED TIMEOUT */
  stop(options?: StopOptions): Promise<void>;
  /** Resolves when the server takes connections, or is a standby that takes none; fine when it was running. @throws SERVICE_FAILED TIMEOUT */
  start(options?: StartOptions): Promise<void>;
  /** What a person would paste into a shell. */
  readonly startCommand: string;
  readonly stopCommand: string;
}
