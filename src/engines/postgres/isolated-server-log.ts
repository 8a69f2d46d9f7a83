import { open } from 'node:fs/promises';
import { AppError } from '../../base/errors.ts';

const TAIL_BYTES = 64 * 1024;

/** The end of a server's log, from `offset` on at the earliest. */
export async function readLogTail(path: string, offset = 0): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const start = Math.max(offset, size - TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, start);
    return buffer.toString('utf8', 0, bytesRead);
  } catch {
    // Without the log the caller still has something to say.
    return '';
  }
}

/**
 * Whether a recovery failed because no record lies at its target or behind it: also when the log ends right there, and all
 * that was wanted has been replayed.
 * @source xlogrecovery.c, PerformWalRecovery (xlog.c before 15)
 */
export function endedBeforeTarget(error: unknown): boolean {
  return (
    error instanceof AppError &&
    error.code === 'RECOVERY_FAILED' &&
    error.message.includes('recovery ended before configured recovery target was reached')
  );
}

/**
 * What the server found wrong with the log, in its own words, the last time; null when it has not said. The end of the
 * log looks the same: zeros or old content where a record should begin.
 * @source xlogreader.c, report_invalid_record
 */
export function findLogDamage(log: string): string | null {
  const words =
    /\bLOG: +((?:invalid|unexpected|incorrect|out-of-sequence|record with|there is no contrecord|contrecord|could not (?:decompress|restore) image|unrecognized|[A-Z_]+ (?:set|not set)).*\b[0-9A-F]+\/[0-9A-F]+.*)/;
  const line = log.split('\n').findLast(each => words.test(each));
  return line === undefined ? null : (words.exec(line)?.[1]?.trim() ?? null);
}

/** What a server says to clients that come too early is no failure of its own. */
const routine = /the database system is|terminating connection|Hot standby mode is disabled/;

/** The likely cause and the next step, by the server's words. */
const hints: readonly (readonly [RegExp, string])[] = [
  [
    /recovery ended before configured recovery target was reached/,
    'The log that was found ends before the target; choose an earlier one.',
  ],
  [
    /could not access file|could not load library/,
    'Install the extension that has this library on this machine, in the version that production uses.',
  ],
  [
    /resource manager with ID/,
    'An extension of the original writes log of its own: set its library in shared_preload_libraries.',
  ],
  [
    /could not locate (?:a valid|required) checkpoint record|invalid checkpoint record|could not find redo location/,
    'The log from the start of the backup is missing.',
  ],
  [
    /requested timeline|not a child of this server's history/,
    "The target's timeline does not come out of this backup's; a history file may be missing.",
  ],
  [
    /wal_level=minimal/,
    'The log was written with wal_level = minimal for a while: nothing beyond that can be recovered.',
  ],
  [/No space left on device/, 'Free space on the file system of the directory.'],
  [
    /incompatible with server|database files are incompatible/,
    'The programs of another version, or of another build, made this directory.',
  ],
];

/** Why a server ended, from its log. */
export function recoveryError(dataDirectory: string, log: string, logFile: string): AppError {
  const lines = log.split('\n').filter(line => line.trim() !== '');
  const fatal = lines.findLastIndex(line => /\b(FATAL|PANIC):/.test(line) && !routine.test(line));
  const shown = fatal < 0 ? lines.slice(-3) : withDetails(lines, fatal);
  const why = shown.map(line => line.replace(/^.*?\[\d+\] /, '').trim()).join(' | ') || 'it printed nothing';
  const hint = hints.find(([pattern]) => pattern.test(why))?.[1];
  return new AppError('RECOVERY_FAILED', `unable to recover '${dataDirectory}': the server ended: ${why}`, {
    hint: `${hint === undefined ? '' : `${hint} `}The server's log is '${logFile}'.`,
    details: { log: lines.slice(-20) },
  });
}

function withDetails(lines: readonly string[], index: number): string[] {
  const detail = lines[index + 1];
  return detail !== undefined && /\b(DETAIL|HINT):/.test(detail) ? [lines[index]!, detail] : [lines[index]!];
}
