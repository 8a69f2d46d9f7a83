import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { DURATION, parseDuration } from '../../base/duration.ts';
import { AppError, fileError } from '../../base/errors.ts';
import type { SqlContext, SqlSettings } from '../../operations/sql/sql-context.ts';
import { addExamples, type Cli, nameOption, wholeNumber } from '../cli.ts';
import type { CommandRun } from '../run-command.ts';
import type { ScriptResult } from '../sql/run-script.ts';
import { addSqlHistory } from './sql-history.ts';

interface SqlOptions {
  readonly command?: string;
  readonly file?: string;
  readonly database?: string;
  readonly dryRun?: boolean;
  readonly readOnly?: boolean;
  readonly maxRows: number;
  readonly limit?: number;
  readonly lockTimeout: number;
  readonly statementTimeout: number;
  readonly answerTimeout: number;
}

const LARGEST_INPUT_BYTES = 16_000_000;
const SHOWN_ROWS = 200;

/** `aishell sql` */
export function addSql(cli: Cli): void {
  const command = cli.program
    .command('sql')
    .description('a careful SQL console: says what a statement would change, and asks before it changes much')
    .argument('[statement]', 'what to run; without one it is typed, or comes from standard input')
    .helpCommand(false)
    .option('-c, --command <statement>', 'what to run')
    .option('-f, --file <path>', 'run what stands in a file')
    .option('--database <name>', "the instance's own unless given", nameOption)
    .option('--dry-run', 'run everything in transactions that are rolled back, and show what it changes')
    .option('--read-only', 'refuse whatever is not reading')
    .option('--max-rows <n>', 'ask before more rows than this are changed', wholeNumber(0, 1e12), 1000)
    .option(
      '--limit <n>',
      'show so many rows of a result, 0 for all (default: 200; with --json all)',
      wholeNumber(0, 1e9),
    )
    .addOption(secondsOption('--lock-timeout <duration>', 'wait no longer for a lock', '5s'))
    .addOption(secondsOption('--statement-timeout <duration>', 'let no statement run longer', '10m'))
    .addOption(
      secondsOption(
        '--answer-timeout <duration>',
        'roll an open transaction back when nobody answers',
        '60s',
      ),
    );
  addExamples(command, [
    ['aishell sql', 'a console to type at'],
    ['aishell sql -c "delete from users where id = 42"', 'one statement; asks when it is more than it seems'],
    ['aishell sql --dry-run -f migration.sql', 'what would this change?'],
    ['aishell sql --read-only --database shop', 'look around, and be sure of it'],
    ['aishell sql --json -c "select * from users" | jq .row', 'rows for a script'],
  ]).action((statement: string | undefined, options: SqlOptions) =>
    cli.run(command, {
      run: run => runSql(run, statement, options),
      draw: () => undefined,
      exitCode: ({ leftOpen }) => (leftOpen ? exitCodes.FINISHED_WITH_PROBLEMS : 0),
    }),
  );
  addSqlHistory(cli, command);
}

function secondsOption(flags: string, description: string, fallback: string): Option {
  return new Option(flags, description).default(parseDuration(fallback), fallback).argParser(text => {
    if (DURATION.test(text) && parseDuration(text) > 0) return parseDuration(text);
    throw new InvalidArgumentError('It must be a number with s, m, h or d, like 5s.');
  });
}

async function runSql(
  run: CommandRun,
  statement: string | undefined,
  options: SqlOptions,
): Promise<ScriptResult> {
  const given = [statement, options.command, options.file].filter(each => each !== undefined);
  if (given.length > 1) {
    throw new AppError('USAGE', 'unable to run several inputs at once', {
      hint: 'Give one statement, or -c, or -f.',
    });
  }
  const [{ readConfig }, { openSql }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-sql.ts'),
  ]);
  const { terminal, flags } = run;
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const context = await openSql(config, { env: terminal.env, instance: flags.instance });
  const settings = settingsOf(run, options);
  const behaviour = { dryRun: options.dryRun === true, answerSeconds: options.answerTimeout };
  if (given.length === 0 && terminal.stdin.isTTY === true)
    return await interactive(run, { context, settings }, behaviour);
  const input = statement ?? options.command ?? (await readInput(run, options.file));
  const { runScript } = await import('../sql/run-script.ts');
  return await runScript(run, { context, settings, input }, behaviour);
}

async function interactive(
  run: CommandRun,
  parts: { readonly context: SqlContext; readonly settings: SqlSettings },
  behaviour: { readonly dryRun: boolean; readonly answerSeconds: number },
): Promise<ScriptResult> {
  if (run.flags.json === true || run.terminal.stdout.isTTY !== true) {
    throw new AppError('USAGE', 'unable to open a console: its output is no terminal', {
      hint: 'Give a statement with -c, a file with -f, or SQL on standard input.',
    });
  }
  const { runInteractive } = await import('../sql/interactive-console.ts');
  return await runInteractive(run, parts, behaviour);
}

function settingsOf({ flags }: CommandRun, options: SqlOptions): SqlSettings {
  const limit = options.limit ?? (flags.json === true ? 0 : SHOWN_ROWS);
  return {
    database: options.database ?? null,
    maxRows: options.maxRows,
    limit: limit === 0 ? null : limit,
    readOnly: options.readOnly === true,
    confirmed: flags.yes === true,
    lockTimeoutMs: options.lockTimeout * 1000,
    statementTimeoutMs: options.statementTimeout * 1000,
  };
}

/** @throws USAGE FILE_FAILED */
async function readInput({ terminal }: CommandRun, file: string | undefined): Promise<string> {
  if (file !== undefined && file !== '-') return await readSqlFile(resolve(terminal.cwd, file));
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of terminal.stdin) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > LARGEST_INPUT_BYTES) throw tooLarge('standard input');
    chunks.push(bytes);
  }
  return decode(Buffer.concat(chunks), 'standard input');
}

async function readSqlFile(path: string): Promise<string> {
  try {
    if ((await stat(path)).size > LARGEST_INPUT_BYTES) throw tooLarge(`'${path}'`);
    return decode(await readFile(path), `'${path}'`);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw fileError('read', path, error);
  }
}

function tooLarge(what: string): AppError {
  return new AppError('USAGE', `unable to run ${what}: it is larger than 16 MB`, {
    hint: 'This console reads all of an input before it runs any of it. Use psql for a dump.',
  });
}

function decode(bytes: Buffer, what: string): string {
  try {
    // Without a byte order mark.
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new AppError('USAGE', `unable to run ${what}: it is no UTF-8`, { cause: error });
  }
}
