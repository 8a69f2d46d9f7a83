import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { archiveThroughAgent } from '../../agent/archive-through-agent.ts';
import { locationOf, openConfiguredRepository } from '../../app/open-repository.ts';
import { exitCodes } from '../../base/codes.ts';
import { toErrorRecord } from '../../base/errors.ts';
import { lockHolder } from '../../base/process-lock.ts';
import { workerUrl } from '../../base/worker-url.ts';
import { findConfigFile } from '../../config/find-config.ts';
import { quickConfig } from '../../config/quick-config.ts';
import { readConfigText } from '../../config/read-config-text.ts';
import { selectInstance } from '../../config/to-config.ts';
import { type ArchiveCall, archiveAhead } from '../../operations/log/archive-ahead.ts';
import { archiveSegment } from '../../operations/log/archive-segment.ts';
import { fetchSegment } from '../../operations/log/fetch-segment.ts';
import { errorLines } from '../render/error-text.ts';
import { styleFor } from '../render/style.ts';
import { NOT_ARCHIVED } from './exit-codes.ts';
import { parseHotArguments } from './hot-arguments.ts';

/**
 * Runs `backup wal-archive` and `backup wal-fetch` when the arguments are as PostgreSQL gives them. Resolves to the exit
 * code, or to null when it takes the full command line (help, a mistake, `--json`, a configuration with mistakes).
 *
 * It handles no signals: PostgreSQL expects to see that its command was ended by one, and a segment is stored whole or
 * not at all.
 */
export async function runHotCommand(
  args: readonly string[],
  cacheDirectory: string | null,
): Promise<number | null> {
  const command = parseHotArguments(args);
  if (command === null) return null;
  try {
    const file = findConfigFile({ file: command.config, env: process.env, cwd: process.cwd() });
    const config = await quickConfig(readConfigText(file), { file, cacheDirectory });
    if (config === null) return null;
    const instance = selectInstance(config, command.instance);
    const agent = { spool: config.agent.spool, instance: instance.name, env: process.env };
    // An agent has the segment already: then no key is opened and nothing is compressed here.
    if (command.name === 'wal-archive' && (await archiveThroughAgent(agent, command.path))) return 0;
    const repository = await openConfiguredRepository(config, { env: process.env });
    if (command.name === 'wal-archive') {
      const request = { instance: instance.name, path: command.path, level: config.backup.compression };
      // What waits behind it is archived beside it, and may fail as it likes: this call is for this segment alone.
      const ahead = callOf(args, { file, cacheDirectory, path: command.path });
      await Promise.all([
        archiveSegment(repository, request),
        ahead === null
          ? undefined
          : archiveAhead({ repository, location: locationOf(config) }, request, ahead),
      ]);
      if (cacheDirectory !== null)
        startSummarizing({ instance: instance.name, configFile: resolve(file), cacheDirectory });
      return 0;
    }
    const request = { instance: instance.name, name: command.fileName, path: command.path };
    return (await fetchSegment(repository, request)) ? 0 : NOT_ARCHIVED;
  } catch (error) {
    const record = toErrorRecord(error);
    process.stderr.write(`${errorLines(record, styleFor(false)).join('\n')}\n`);
    return exitCodes[record.code];
  }
}

/**
 * The summary of a segment takes as long to make as the segment to archive, and the server waits for this process: so
 * another one makes it, and those of all segments that have none yet, at the lowest priority. One at a time.
 */
function startSummarizing(of: {
  readonly instance: string;
  readonly configFile: string;
  readonly cacheDirectory: string;
}): void {
  const lock = join(of.cacheDirectory, `summarize-${nameOfCall(of)}`);
  const program = process.argv[1];
  if (process.env['AISHELL_SUMMARIES'] === 'later' || program === undefined || lockHolder(lock) !== null)
    return;
  const args = [
    'backup',
    'wal-summarize',
    '--config',
    of.configFile,
    '--instance',
    of.instance,
    '--lock',
    lock,
  ];
  // Whatever becomes of it, the segment is archived; who needs a summary that is missing makes it.
  spawn(process.execPath, [program, ...args], { cwd: '/', detached: true, stdio: 'ignore' })
    .on('error', () => undefined)
    .unref();
}

function nameOfCall(of: { readonly instance: string; readonly configFile: string }): string {
  return createHash('sha256').update(`${of.instance} ${of.configFile}`).digest('hex').slice(0, 16);
}

/** How the notes for segments archived ahead look, which bin/aishell compares; null without a place for them. */
function callOf(
  args: readonly string[],
  run: { readonly file: string; readonly cacheDirectory: string | null; readonly path: string },
): ArchiveCall | null {
  const { file, cacheDirectory, path } = run;
  if (cacheDirectory === null) return null;
  const environment = process.env['AISHELL_CONFIG'] ?? '';
  return {
    notes: join(cacheDirectory, 'archived'),
    configFile: file,
    workerUrl: workerUrl('archive-ahead-worker', pathToFileURL(process.argv[1] ?? '').href),
    commandFor: other => [environment, ...args.map(arg => (arg === path ? other : arg))].join(' '),
  };
}
