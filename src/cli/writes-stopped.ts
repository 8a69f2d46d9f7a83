import { openCommandEmergency } from './open-emergency.ts';
import type { Page } from './render/page.ts';
import type { CommandRun } from './run-command.ts';

/** The repository is asked no longer: the work it is about is done. */
const ASK_MS = 2000;

/** Whether `emergency stop-writes` is in force, which a restore or an undo leaves as it is. False where nobody can tell. */
export async function writesAreStopped(run: CommandRun): Promise<boolean> {
  const { readOpenStops } = await import('../operations/emergency/open-stops.ts');
  try {
    const context = await openCommandEmergency(run);
    const { records } = await readOpenStops(context, { signal: run.signal, limitMs: ASK_MS });
    return records.length > 0;
  } catch {
    // It only reminds: what was asked for is done, and its result must not be lost over this.
    return false;
  }
}

export function drawWritesStopped(page: Page, isStopped: boolean): void {
  if (!isStopped) return;
  page.line();
  page.line(page.style.warn('⚠️  Writes are still stopped.'));
  page.line(`   To let writes in again: ${page.style.title('aishell emergency resume-writes')}`);
}
