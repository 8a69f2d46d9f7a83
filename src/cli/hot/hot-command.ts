import { statSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { archiveThroughAgent } from '../../agent/archive-through-agent.ts';
import { locationOf, openConfiguredRepository } from '../../app/open-repository.ts';
import { exitCodes } from '../../base/codes.ts';
import { toErrorRecord } from '../../base/errors.ts';
import { workerUrl } from '../../base/worker-url.ts';
import { findConfigFile } from '../../config/find-config.ts';
import { quickConfig } from '../../config/quick-config.ts';
import { readConfigText } from '../../config/read-config-text.ts';
import { selectInstance } from '../../config/to-config.ts';
import { archiveAhead } from '../../operations/log/archive-ahead.ts';
import type { ArchiveCall } from '../../operations/log/archive-notes.ts';
import { type ArchiveRequest, archiveSegment } from '../../operations/log/archive-segment.ts';
import { fetchSegment } from '../../operations/log/fetch-segment.ts';
import { errorLines } from '../render/error-text.ts';
import { styleFor } from '../render/style.ts';
import { NOT_ARCHIVED } from './exit-codes.ts';
import { parseHotArguments, WAL_ARCHIVE_AHEAD } from './hot-arguments.ts';
import { type Behind, lockFor, startArchivingAhead, startSummarizing } from './start-behind.ts';

/**
 * Runs `backup wal-archive` and `backup wal-fetch` when the arguments are as PostgreSQL gives them, or what
 * wal-archive itself starts. Resolves to the exit code, or to null when it takes the full command line (help, a mistake, `--json`, a configuration with mistakes).
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
    if (config === null) return command.name === WAL_ARCHIVE_AHEAD ? 0 : null;
    const instance = selectInstance(config, command.instance);
    const agent = { spool: config.agent.spool, instance: instance.name, env: process.env };
    // An agent has the segment already: then no key is opened and nothing is compressed here.
    if (command.name === 'wal-archive' && (await archiveThroughAgent(agent, command.path))) return 0;
    const repository = await openConfiguredRepository(config, { env: process.env });
    if (command.name === 'wal-fetch') {
      const request = { instance: instance.name, name: command.fileName, path: command.path };
      return (await fetchSegment(repository, request)) ? 0 : NOT_ARCHIVED;
    }
    const request = { instance: instance.name, path: command.path, level: config.backup.compression };
    const behind =
      cacheDirectory === null ? null : { instance: instance.name, configFile: file, cacheDirectory };
    if (command.name === 'wal-archive') await archiveOne(repository, request, { args, behind });
    else if (behind !== null) {
      await archiveAhead({
        ...{ repository, request, location: locationOf(config) },
        call: callOf(args, { ...behind, path: command.path }),
        lock: lockFor('archive-ahead', behind),
        workerUrl: workerUrl('archive-ahead-worker', pathToFileURL(process.argv[1] ?? '').href),
        onAnnounced: tellStarter,
      });
      startSummarizing(behind);
    }
    return 0;
  } catch (error) {
    // Where the server is the first process of a container, it takes a failure of what nobody waits for as one of its own.
    if (command.name === WAL_ARCHIVE_AHEAD) return 0;
    const record = toErrorRecord(error);
    process.stderr.write(`${errorLines(record, styleFor(false)).join('\n')}\n`);
    return exitCodes[record.code];
  }
}

/** Archives the segment of this call; what waits behind it, and its summary, are left to other processes. */
async function archiveOne(
  repository: Awaited<ReturnType<typeof openConfiguredRepository>>,
  request: ArchiveRequest,
  { args, behind }: { readonly args: readonly string[]; readonly behind: Behind | null },
): Promise<void> {
  const ahead = behind === null ? null : startArchivingAhead(behind, { args, path: request.path });
  try {
    await archiveSegment(repository, request);
  } finally {
    await ahead?.settle();
  }
  if (behind !== null) startSummarizing(behind);
}

/** It may have gone on without waiting. */
function tellStarter(): void {
  process.stdout.once('error', () => undefined).end('\n');
}

/** How the notes for segments archived ahead look, which bin/aishell compares. */
function callOf(args: readonly string[], of: Behind & { readonly path: string }): ArchiveCall {
  const environment = process.env['AISHELL_CONFIG'] ?? '';
  const others = args.map(arg => (arg === WAL_ARCHIVE_AHEAD ? 'wal-archive' : arg));
  return {
    // The path of the log within: the segments of another instance have the same names.
    notes: join(of.cacheDirectory, 'archived', dirname(resolve(shellDirectory(), of.path))),
    configFile: of.configFile,
    commandFor: other => [environment, ...others.map(arg => (arg === of.path ? other : arg))].join(' '),
  };
}

/** The working directory by the name that a shell has for it, which may lead through links: bin/aishell looks for notes there. */
function shellDirectory(): string {
  const named = process.env['PWD'] ?? '';
  const [its, own] = [named, '.'].map(path => statSync(path, { throwIfNoEntry: false }));
  return isAbsolute(named) && its?.ino === own?.ino && its?.dev === own?.dev ? named : process.cwd();
}
