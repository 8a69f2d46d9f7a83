/** Work of one kind: so many bytes took so long. */
export interface Work {
  readonly bytes: number;
  readonly seconds: number;
}

/** What one restore, rewind or test took, by the kind of work. What it had no part of is left out. */
export interface RecoveryWork {
  /** Log, from the start of the server in isolation until it was open; fetching it ahead is part of that. */
  readonly replay?: Work;
  /** Log, out of the storage: what its threads waited for it, one after the other. */
  readonly fetch?: Work;
  /** Whole files from a backup, with whatever else grows with them: flushing, checking pages. */
  readonly restore?: Work;
  /** Pages written back in place. */
  readonly rewrite?: Work;
  /** How much of the log a rewind replayed made it write so many bytes back. */
  readonly rewriteShare?: { readonly rewrittenBytes: number; readonly logBytes: number };
  /** All the rest, which does not grow with anything: planning, stopping, starting. */
  readonly fixedSeconds?: number;
}

/** How fast this machine recovers an instance. */
export interface RecoverySpeed {
  readonly replayBytesPerSecond: number;
  readonly fetchBytesPerSecond: number;
  readonly restoreBytesPerSecond: number;
  readonly rewriteBytesPerSecond: number;
  /** Bytes written back for each byte of log since the base. */
  readonly rewriteShare: number;
  readonly fixedSeconds: number;
  /** Which of these were measured on this machine, for this instance; the others are careful guesses. */
  readonly measured: readonly (keyof RecoveryWork)[];
}

/** What is measured for an instance, newer runs weighing more. The same shape as the work of one run. */
export type SpeedRecord = RecoveryWork & { readonly measuredAt: string };

/** Slower than any machine this was tried on: who plans by these is not disappointed. */
const guessed = {
  replayBytesPerSecond: 80e6,
  fetchBytesPerSecond: 50e6,
  restoreBytesPerSecond: 80e6,
  rewriteBytesPerSecond: 50e6,
  rewriteShare: 0.15,
  fixedSeconds: 10,
} as const;

/** Below this, starting a server takes longer than what is measured. */
const TELLING_BYTES = 32e6;
const OLDER_WEIGHT = 0.5;

/** The speeds to plan with, from what was measured. */
export function speedOf(record: SpeedRecord | null): RecoverySpeed {
  const measured: (keyof RecoveryWork)[] = [];
  const rate = (kind: 'replay' | 'fetch' | 'restore' | 'rewrite'): number => {
    const work = record?.[kind];
    if (work === undefined || work.bytes <= 0 || work.seconds <= 0) return guessed[`${kind}BytesPerSecond`];
    measured.push(kind);
    return work.bytes / work.seconds;
  };
  const speed = {
    replayBytesPerSecond: rate('replay'),
    fetchBytesPerSecond: rate('fetch'),
    restoreBytesPerSecond: rate('restore'),
    rewriteBytesPerSecond: rate('rewrite'),
  };
  const share = record?.rewriteShare;
  if (share !== undefined) measured.push('rewriteShare');
  if (record?.fixedSeconds !== undefined) measured.push('fixedSeconds');
  return {
    ...speed,
    rewriteShare:
      share === undefined || share.logBytes <= 0
        ? guessed.rewriteShare
        : share.rewrittenBytes / share.logBytes,
    fixedSeconds: record?.fixedSeconds ?? guessed.fixedSeconds,
    measured,
  };
}

/** A record with one more run in it: each older run counts half as much as the one after it. Too small a run says nothing. */
export function addRun(record: SpeedRecord | null, run: RecoveryWork, at: Date): SpeedRecord {
  const merged: { -readonly [Key in keyof RecoveryWork]: RecoveryWork[Key] } = { ...record };
  for (const kind of ['replay', 'fetch', 'restore', 'rewrite'] as const) {
    const [old, work] = [record?.[kind], run[kind]];
    if (work === undefined || work.bytes < TELLING_BYTES || work.seconds <= 0) continue;
    merged[kind] = {
      bytes: (old?.bytes ?? 0) * OLDER_WEIGHT + work.bytes,
      seconds: (old?.seconds ?? 0) * OLDER_WEIGHT + work.seconds,
    };
  }
  const { rewriteShare, fixedSeconds } = run;
  if (rewriteShare !== undefined && rewriteShare.logBytes >= TELLING_BYTES) {
    const old = record?.rewriteShare;
    merged.rewriteShare = {
      rewrittenBytes: (old?.rewrittenBytes ?? 0) * OLDER_WEIGHT + rewriteShare.rewrittenBytes,
      logBytes: (old?.logBytes ?? 0) * OLDER_WEIGHT + rewriteShare.logBytes,
    };
  }
  if (fixedSeconds !== undefined)
    merged.fixedSeconds =
      record?.fixedSeconds === undefined
        ? fixedSeconds
        : record.fixedSeconds * OLDER_WEIGHT + fixedSeconds * (1 - OLDER_WEIGHT);
  return { ...merged, measuredAt: at.toISOString() };
}
