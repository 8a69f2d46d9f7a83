/** What the agent tells its watchdog, a line of JSON each; the end of the lines means that the agent is dead. */
export type WatchdogOrder =
  | {
      /** Everything received reaches the disk in time. */
      readonly ok: boolean;
      /** And that is nearly all the server has: commits may wait for it. */
      readonly caughtUp: boolean;
    }
  | { readonly end: true };

/** What the watchdog tells the agent. */
export type WatchdogReport =
  /** `overruled`: somebody changed the setting, and that counts until the agent is started again. */
  | { readonly state: 'on' | 'off'; readonly overruled?: true }
  /** It cannot be done, and another attempt would not help. */
  | { readonly refused: { readonly code: string; readonly message: string; readonly hint?: string } };

/** How often the agent says that it is well. */
export const BEAT_MS = 250;
