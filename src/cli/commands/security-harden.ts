import { type Command, InvalidArgumentError, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { DURATION, parseDuration } from '../../base/duration.ts';
import type { HardenReport, HardenRequest } from '../../operations/harden/harden.ts';
import { logStatements, type MeasureName, measureNames } from '../../operations/harden/measure.ts';
import { splitTableNames } from '../../operations/harden/table-selection.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { confirmPhrase } from '../confirm.ts';
import { openHardening } from '../open-hardening.ts';
import { drawHardened, drawHardenPlan, drawHardenScript } from '../render/harden-page.ts';
import type { CommandRun } from '../run-command.ts';

interface HardenCommandOptions {
  readonly database?: string;
  readonly tables?: readonly string[];
  readonly allTables?: boolean;
  readonly rows?: number;
  readonly measure?: readonly MeasureName[];
  readonly statementTimeout?: number;
  readonly idleTimeout?: number;
  readonly lockTimeout?: number;
  readonly logStatement?: (typeof logStatements)[number];
  readonly applyRecommendations?: boolean;
  readonly revert?: boolean;
  readonly dryRun?: boolean;
}

const MOST_ROWS = 1_000_000_000_000;
/** Timeouts of the server are milliseconds in 31 bits. */
const MOST_SECONDS = 2_000_000;

/** `aishell security harden` */
export function addSecurityHarden(cli: Cli, group: Command): void {
  const command = group
    .command('harden')
    .description(
      'measures against the next accident: shown as SQL, applied when asked, taken back when asked',
    )
    .option('--database <name>', "which database (default: that of the instance's connection)")
    .option('--tables <names>', 'protect these tables, separated by commas', tablesOption)
    .addOption(
      new Option('--all-tables', 'protect all tables (default, unless some were named before)').conflicts(
        'tables',
      ),
    )
    .option(
      '--rows <count>',
      'the most rows that one DELETE or UPDATE may change (default: as before, else 1000)',
      wholeNumber(1, MOST_ROWS),
    )
    .addOption(
      new Option('--measure <name>', 'only this one; may be given several times (default: all)')
        .choices(measureNames)
        .argParser(measureOption),
    )
    .option('--statement-timeout <time>', 'longest statement of an ordinary role (default: 15m)', timeOption)
    .option('--idle-timeout <time>', 'longest a transaction of it may idle (default: 10m)', timeOption)
    .option('--lock-timeout <time>', 'longest it waits for a lock (default: 1m)', timeOption)
    .addOption(
      new Option('--log-statement <kind>', 'which statements are logged (default: mod)').choices(
        logStatements,
      ),
    )
    .option('--apply-recommendations', 'apply what is shown')
    .addOption(
      new Option('--revert', 'take back what was applied').conflicts([
        ...['applyRecommendations', 'tables', 'allTables', 'rows'],
        ...['statementTimeout', 'idleTimeout', 'lockTimeout', 'logStatement'],
      ]),
    )
    .option('--dry-run', 'show the SQL, change nothing');
  addExamples(command, [
    ['aishell security harden', 'what could be done? The output is a script for psql'],
    ['aishell security harden --apply-recommendations', 'apply all of it, after a question'],
    [
      'aishell security harden --measure mass-write --rows 5000 --tables users,orders --apply-recommendations',
      'one measure, for two tables',
    ],
    ['aishell security harden --revert --measure mass-write', 'take one back'],
  ]).action((options: HardenCommandOptions) =>
    cli.run(command, {
      run: run => runHarden(run, options),
      draw: (page, report: HardenReport) =>
        report.dryRun ? drawHardenScript(page, report) : drawHardened(page, report),
      exitCode: ({ dryRun, problems }) =>
        dryRun || problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS,
    }),
  );
}

async function runHarden(run: CommandRun, options: HardenCommandOptions): Promise<HardenReport> {
  const [{ harden }, context] = await Promise.all([
    import('../../operations/harden/harden.ts'),
    openHardening(run),
  ]);
  return await harden(context, requestOf(options), {
    signal: run.signal,
    onEvent: run.onEvent,
    async confirm(plan) {
      run.show(page => drawHardenPlan(page, plan));
      const does = plan.action === 'apply' ? 'protect' : 'take back the protection of';
      const question = `Type 'YES' to ${does} the database '${plan.database}': `;
      await confirmPhrase(run, {
        phrase: 'YES',
        question,
        given: run.flags.yes === true ? 'YES' : null,
        flags: '--yes',
      });
    },
  });
}

function requestOf(options: HardenCommandOptions): HardenRequest {
  return {
    action: options.revert === true ? 'revert' : 'apply',
    database: options.database ?? null,
    measures: options.measure ?? null,
    settings: {
      rows: options.rows ?? null,
      tables: options.allTables === true ? 'all' : (options.tables ?? null),
      statementTimeoutSeconds: options.statementTimeout ?? null,
      idleTimeoutSeconds: options.idleTimeout ?? null,
      lockTimeoutSeconds: options.lockTimeout ?? null,
      logStatement: options.logStatement ?? null,
    },
    dryRun: options.dryRun === true || !(options.applyRecommendations === true || options.revert === true),
  };
}

function tablesOption(text: string): readonly string[] {
  const names = splitTableNames(text);
  if (names.length > 0) return names;
  throw new InvalidArgumentError('It must name a table.');
}

function measureOption(name: string, before: readonly MeasureName[] = []): readonly MeasureName[] {
  const known = measureNames.find(measure => measure === name);
  if (known === undefined) throw new InvalidArgumentError(`It must be one of ${measureNames.join(', ')}.`);
  return [...new Set([...before, known])];
}

function timeOption(text: string): number {
  const seconds = DURATION.test(text) ? parseDuration(text) : 0;
  if (seconds >= 1 && seconds <= MOST_SECONDS) return seconds;
  throw new InvalidArgumentError('It must be a number with s, m, h or d, like 90s or 15m.');
}
