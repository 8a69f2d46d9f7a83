import { exitCodes } from '../../base/codes.ts';
import { toErrorRecord } from '../../base/errors.ts';
import { errorLines } from '../render/error-text.ts';
import { styleFor } from '../render/style.ts';
import { parseHotArguments } from './hot-arguments.ts';
import { walArchive, walFetch } from './wal-commands.ts';

/** PostgreSQL ends a recovery when restore_command exits above 125; 1 would mean the end of the log. */
export const FETCH_TROUBLE = 200;

/**
 * Runs `backup wal-archive` and `backup wal-fetch` when the arguments are as PostgreSQL gives them. Resolves to the exit
 * code, or to null when the arguments need the full command line (help, a mistake, `--json`).
 *
 * It handles no signals: PostgreSQL expects to see that its command was ended by one, and a segment is stored whole or
 * not at all.
 */
export async function runHotCommand(args: readonly string[]): Promise<number | null> {
  const command = parseHotArguments(args);
  if (command === null) return null;
  try {
    const scope = {
      config: command.config,
      instance: command.instance,
      env: process.env,
      cwd: process.cwd(),
    };
    if (command.name === 'wal-fetch') return (await walFetch(scope, command)).found ? 0 : 1;
    await walArchive(scope, command);
    return 0;
  } catch (error) {
    const record = toErrorRecord(error);
    process.stderr.write(`${errorLines(record, styleFor(false)).join('\n')}\n`);
    return command.name === 'wal-fetch' ? FETCH_TROUBLE : exitCodes[record.code];
  }
}
