/** Decides when the server is told how far its log is safe here. */
export interface ReportPace {
  /** Something came from the server. */
  received(): void;
  stop(): void;
}

/**
 * One report for all that comes with one read from the connection. Somebody may wait for that alone (remote_write), and it
 * wakes the server's sender, which may have missed that more was flushed while it was sending (measured, without it: one in
 * twenty commits beside 5 MB of log a second came 20 ms late, with the next one).
 *
 * @param againMs after so long without anything more, what was flushed since is told too; null: whoever flushes tells it
 */
export function paceReports(report: () => void, againMs: number | null): ReportPace {
  let isDue = false;
  const again = againMs === null ? null : setTimeout(report, againMs);
  return {
    received() {
      again?.refresh();
      if (isDue) return;
      isDue = true;
      queueMicrotask(() => {
        isDue = false;
        report();
      });
    },
    stop() {
      if (again !== null) clearTimeout(again);
    },
  };
}
