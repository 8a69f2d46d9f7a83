import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../base/errors.ts';
import type { LogSystem } from './log-system.ts';
import type { SpoolFile } from './spool-directory.ts';

/** archive_command is run the moment a segment is complete; the stream may be a little behind. */
const RECEIVE_MS = 3000;
const POLL_MS = 20;
/** The server runs nothing else of its archive meanwhile, and waits for the command when it shuts down. */
const ARCHIVE_MS = 20_000;

/**
 * Takes a segment over from archive_command: true when it is durable in the repository, byte for byte; otherwise why the
 * command must do it itself.
 *
 * @throws what archiving it fails with; TIMEOUT
 */
export async function takeOver(
  system: LogSystem | null,
  wanted: { readonly name: string; readonly path: string },
  signal: AbortSignal,
): Promise<true | string> {
  if (system === null) return 'the agent is not connected to the server';
  const file = await waitForFile(system, wanted.name, signal);
  if (file === null) return 'the agent has not received this segment';
  const path = join(system.directory.path, file.file);
  // Unreadable here, or pruned meanwhile: the command has rights and reasons of its own.
  const isSame = await system.compare(path, wanted.path).catch(() => false);
  if (!isSame) return 'the agent has received other bytes, or cannot read the file';
  const enough = AbortSignal.any([signal, AbortSignal.timeout(ARCHIVE_MS)]);
  const late = new Promise<never>((_resolve, reject) => {
    const giveUp = (): void => {
      const problem = system.archiver.state.problem ?? 'others are archived first';
      reject(new AppError('TIMEOUT', `unable to archive '${wanted.name}' for now: ${problem}`));
    };
    if (enough.aborted) giveUp();
    else enough.addEventListener('abort', giveUp, { once: true });
  });
  await Promise.race([system.archiver.archived(wanted.name), late]);
  return true;
}

async function waitForFile(system: LogSystem, name: string, signal: AbortSignal): Promise<SpoolFile | null> {
  const giveUpMs = performance.now() + RECEIVE_MS;
  for (;;) {
    const file = system.directory.list().find(each => each.segment === name);
    if (file !== undefined && file.state !== 'partial') return file;
    // Of another system, of another timeline, or from before the agent was there.
    if (performance.now() > giveUpMs || signal.aborted || system.spool === null) return null;
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}
