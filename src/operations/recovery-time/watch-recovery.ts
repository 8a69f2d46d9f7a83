import type { OnEvent, OperationEvent } from '../../base/events.ts';
import type { RecoveryWork, Work } from './recovery-speed.ts';

/** What a recovery had to do, as its report says it. */
export interface RecoveryAmounts {
  readonly logBytes: number;
  /** Everything was restored: the bytes of the backup's files; otherwise null. */
  readonly restoredBytes: number | null;
  /** Only pages were written back: how many bytes; otherwise null. */
  readonly rewrittenBytes: number | null;
}

/** Times the steps of a recovery, by the events it sends. */
export interface RecoveryWatch {
  /** In place of the recovery's own. */
  readonly onEvent: OnEvent;
  /** Waits for a person's answer, which takes as long as it takes. */
  askPerson<T>(ask: () => Promise<T>): Promise<T>;
  /** What it took, once it is over; null for one that only finished what another run had begun. */
  work(amounts: RecoveryAmounts): RecoveryWork | null;
}

/** Steps that grow with the size of the database, or with what of it is written back. */
const GROWING = ['check', 'restore-files', 'rewind-plan', 'keep', 'rewrite', 'pages', 'sync'];
const CHECKS = /^check-/;
/** Told by a feeder of the log when it ends. */
export const LOG_FED = 'log-fed';

export function watchRecovery(onEvent: OnEvent): RecoveryWatch {
  const startedAt = performance.now();
  const seconds = new Map<string, number>();
  let waitedMs = 0;
  let openedAt: number | null = null;
  let fetch: Work | null = null;
  const see = (event: OperationEvent): void => {
    if (event.type !== 'step' || event.state !== 'done') return;
    seconds.set(event.step, (seconds.get(event.step) ?? 0) + (event.seconds ?? 0));
    // What is verified after the opening keeps nobody waiting.
    if (event.step === 'start') openedAt = performance.now();
  };
  return {
    onEvent: event => {
      if (event.type === 'facts' && event.topic === LOG_FED) {
        // It goes into the report with all the rest.
        fetch = fetchOf(event.facts);
        return;
      }
      see(event);
      onEvent(event);
    },
    async askPerson(ask) {
      const askedAt = performance.now();
      try {
        return await ask();
      } finally {
        waitedMs += performance.now() - askedAt;
      }
    },
    work({ logBytes, restoredBytes, rewrittenBytes }) {
      if (seconds.has('resume')) return null;
      const wholeSeconds = ((openedAt ?? performance.now()) - startedAt - waitedMs) / 1000;
      const replaySeconds = seconds.get('replay') ?? 0;
      let growingSeconds = 0;
      for (const [step, each] of seconds)
        if (GROWING.includes(step) || CHECKS.test(step)) growingSeconds += each;
      return {
        replay: { bytes: logBytes, seconds: replaySeconds },
        ...(fetch === null ? {} : { fetch }),
        ...(restoredBytes === null ? {} : { restore: { bytes: restoredBytes, seconds: growingSeconds } }),
        ...(rewrittenBytes === null
          ? {}
          : {
              rewrite: { bytes: rewrittenBytes, seconds: growingSeconds },
              rewriteShare: { rewrittenBytes, logBytes },
            }),
        fixedSeconds: Math.max(0, wholeSeconds - replaySeconds - growingSeconds),
      };
    },
  };
}

function fetchOf({ bytes, waitedMs }: Readonly<Record<string, unknown>>): Work | null {
  return typeof bytes === 'number' && typeof waitedMs === 'number'
    ? { bytes, seconds: waitedMs / 1000 }
    : null;
}
