import type { BackupFacts } from '../../repository/manifest.ts';
import type { RecoverySpeed, RecoveryWork } from './recovery-speed.ts';

/** What a recovery would have to do now. */
export interface RecoveryNeeds {
  readonly backup: Pick<BackupFacts, 'id' | 'startLsn' | 'stopTime' | 'sizeBytes'>;
  /** From the start of the backup to now. */
  readonly logBytes: number;
  /** Null: only the changed pages need to be written back; otherwise why everything must be restored. */
  readonly whyNotRewind: string | null;
}

/** How long it would take to bring the instance back to any moment since its newest backup. */
export interface RecoveryEstimate {
  /** From the command until the server is open, in place: the usual case, a mistake in the data. */
  readonly seconds: number;
  readonly method: 'rewind' | 'restore';
  readonly whyNotRewind: string | null;
  /** The same with nothing left of the server: everything comes from the repository. */
  readonly lostServerSeconds: number;
  /** What `seconds` would be right after another backup. */
  readonly floorSeconds: number;
  readonly secondsPerLogByte: number;
  readonly parts: {
    readonly fixedSeconds: number;
    readonly restoreSeconds: number;
    readonly rewriteSeconds: number;
    readonly replaySeconds: number;
  };
  readonly backup: RecoveryNeeds['backup'];
  readonly logBytes: number;
  /** `measured`: every speed that counts here was measured on this machine; `guessed`: none was. */
  readonly confidence: 'measured' | 'partly measured' | 'guessed';
}

/** Adds up what a recovery has to do, at the speeds that were measured or are guessed. */
export function estimateRecovery(needs: RecoveryNeeds, speed: RecoverySpeed): RecoveryEstimate {
  const { logBytes, whyNotRewind } = needs;
  // Segments are fetched while others are replayed: the slower of both counts. A measured replay includes that.
  const isReplayMeasured = speed.measured.includes('replay');
  const replayRate = isReplayMeasured
    ? speed.replayBytesPerSecond
    : Math.min(speed.replayBytesPerSecond, speed.fetchBytesPerSecond);
  const replaySeconds = logBytes / replayRate;
  const allSeconds = needs.backup.sizeBytes / speed.restoreBytesPerSecond;
  // No more than everything is ever written back.
  const rewriteSeconds = Math.min(
    (logBytes * speed.rewriteShare) / speed.rewriteBytesPerSecond,
    needs.backup.sizeBytes / speed.rewriteBytesPerSecond,
  );
  const lostServerSeconds = speed.fixedSeconds + allSeconds + replaySeconds;
  const rewindSeconds = speed.fixedSeconds + rewriteSeconds + replaySeconds;
  // The command itself takes the cheaper way.
  const isRewind = whyNotRewind === null && rewindSeconds <= lostServerSeconds;
  const parts = {
    fixedSeconds: speed.fixedSeconds,
    restoreSeconds: isRewind ? 0 : allSeconds,
    rewriteSeconds: isRewind ? rewriteSeconds : 0,
    replaySeconds,
  };
  return {
    seconds: isRewind ? rewindSeconds : lostServerSeconds,
    method: isRewind ? 'rewind' : 'restore',
    whyNotRewind,
    lostServerSeconds,
    floorSeconds: parts.fixedSeconds + parts.restoreSeconds,
    secondsPerLogByte: 1 / replayRate + (isRewind ? speed.rewriteShare / speed.rewriteBytesPerSecond : 0),
    parts,
    backup: needs.backup,
    logBytes,
    confidence: confidenceIn(speed, isRewind),
  };
}

function confidenceIn(speed: RecoverySpeed, isRewind: boolean): RecoveryEstimate['confidence'] {
  const counts: readonly (keyof RecoveryWork)[] = isRewind
    ? ['replay', 'rewrite', 'rewriteShare', 'fixedSeconds']
    : ['replay', 'restore', 'fixedSeconds'];
  const known = counts.filter(kind => speed.measured.includes(kind)).length;
  if (known === counts.length) return 'measured';
  return known === 0 ? 'guessed' : 'partly measured';
}
