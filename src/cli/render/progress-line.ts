import type { ProgressEvent } from '../../base/events.ts';
import { formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';

const BAR_CELLS = 30;
const SHORTEST_BAR = 5;

/** What the speed of work is measured in: its bytes, or where there are none the things it counts. */
export function progressDone({ doneBytes, totalBytes, done }: ProgressEvent): number {
  return totalBytes <= 0 && done !== undefined ? done : doneBytes;
}

/**
 * `75% (34.2 GB / 45.3 GB)`, then the counted things, speed and time left as far as they are known.
 *
 * @param ratePerSecond of {@link progressDone}
 */
export function progressText(event: ProgressEvent, ratePerSecond: number | null): string {
  if (event.totalBytes <= 0 && event.total !== undefined) return countedText(event, ratePerSecond);
  const rateBytesPerSecond = ratePerSecond;
  const parts = [`${percentOf(event)}% (${formatBytes(event.doneBytes)} / ${formatBytes(event.totalBytes)})`];
  if (event.done !== undefined) {
    const total = event.total === undefined ? '' : ` / ${formatCount(event.total)}`;
    parts.push(`${formatCount(event.done)}${total} ${event.unit ?? ''}`.trim());
  }
  if (rateBytesPerSecond !== null) {
    parts.push(`${formatBytes(rateBytesPerSecond)}/s`);
    const leftBytes = event.totalBytes - event.doneBytes;
    if (leftBytes > 0 && rateBytesPerSecond > 0)
      parts.push(`ETA ${formatSeconds(leftBytes / rateBytesPerSecond)}`);
  }
  return parts.join('  ');
}

/** `75% (2,400,000 / 3,200,000 rows)  118,000 rows/s  ETA 6.8s`; without a unit nobody wants to know the speed. */
function countedText(event: ProgressEvent, ratePerSecond: number | null): string {
  const { done = 0, total = 0, unit } = event;
  const counts = `${formatCount(done)} / ${formatCount(total)} ${unit ?? ''}`.trim();
  const parts = [`${percentOf(event)}% (${counts})`];
  if (ratePerSecond !== null && ratePerSecond > 0 && unit !== undefined) {
    parts.push(`${formatCount(Math.round(ratePerSecond))} ${unit}/s`);
    if (total > done) parts.push(`ETA ${formatSeconds((total - done) / ratePerSecond)}`);
  }
  return parts.join('  ');
}

/** `[■■■■■■░░░░]`, at most `room` cells long where there is less than usual. */
export function progressBar(event: ProgressEvent, room = BAR_CELLS): string {
  const barCells = Math.max(SHORTEST_BAR, Math.min(BAR_CELLS, room));
  const filled = Math.floor((percentOf(event) * barCells) / 100);
  return `[${'■'.repeat(filled)}${'░'.repeat(barCells - filled)}]`;
}

function percentOf({ doneBytes, totalBytes, done = 0, total = 0 }: ProgressEvent): number {
  // Some work is counted in things alone.
  if (totalBytes <= 0 && total > 0) return Math.min(100, Math.floor((done * 100) / total));
  // Nothing to do is done; and a file that grew while it was read must not make more than all.
  if (totalBytes <= 0) return 100;
  return Math.max(0, Math.min(100, Math.floor((doneBytes * 100) / totalBytes)));
}
