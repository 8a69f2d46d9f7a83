import type { Command } from 'commander';
import { AppError } from '../../base/errors.ts';
import { formatMoment, parseMoment } from '../../base/moment.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { Explanation } from '../../explain/explain.ts';
import { accountOfTimeline, factsOfTimeline } from '../../operations/timeline/account-of-timeline.ts';
import type { TimelineReport } from '../../operations/timeline/timeline-report.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { drawExplanation, explainFor } from '../explained.ts';
import { openCommandInstance } from '../open-instance.ts';
import { barsWithin, drawTimeline } from '../render/timeline-page.ts';
import type { CommandRun } from '../run-command.ts';

interface TimelineOptions {
  readonly from?: string;
  readonly to?: string;
  readonly table?: string;
  readonly minRows: number;
  readonly limit: number;
  readonly timeline?: number;
  readonly explain?: boolean;
}

type TimelineResult = TimelineReport & { readonly explanation: Explanation | null };

const PLAIN_WIDTH = 80;
/** A day in minutes: what a script gets. */
const JSON_BUCKETS = 1440;

/** `aishell backup timeline` */
export function addBackupTimeline(cli: Cli, group: Command): void {
  let width = PLAIN_WIDTH;
  const command = group
    .command('timeline')
    .description('what happened: activity, the transactions that stand out, and the way back to before each')
    .option('--from <time>', 'a day before the end, unless given: "2025-10-27 13:00", "2 hours ago"')
    .option('--to <time>', 'now, unless given')
    .option('--table <name>', 'only this table: users, public.users or shop.public.users')
    .option('--min-rows <n>', 'a change of so many rows stands out', wholeNumber(1, 1e12), 1000)
    .option('--limit <n>', 'list so many transactions and tables', wholeNumber(1, 1000), 10)
    .option(
      '--timeline <n>',
      'of the log; the one the instance is on unless given',
      wholeNumber(1, 0xffff_ffff),
    )
    .option('--explain', 'also in plain words, by a language model where one is configured');
  addExamples(command, [
    ['aishell backup timeline', 'the last day'],
    ['aishell backup timeline --from "1 hour ago" --table users', 'who did what to users?'],
    ['aishell backup timeline --from "yesterday 22:00" --to "today 06:00" --min-rows 100000', 'last night'],
    ['aishell backup timeline --json', 'by minute, for a script'],
  ]).action((options: TimelineOptions) =>
    cli.run(command, {
      title: '📈 Timeline',
      run: run => {
        width = run.terminal.stdout.columns || PLAIN_WIDTH;
        return runTimeline(run, options, width);
      },
      draw: (page, report) => {
        drawTimeline(page, report, width);
        drawExplanation(page, report.explanation);
      },
    }),
  );
}

async function runTimeline(
  run: CommandRun,
  options: TimelineOptions,
  width: number,
): Promise<TimelineResult> {
  const now = new Date();
  const fromUs = options.from === undefined ? null : parseMoment(options.from, now);
  const toUs = options.to === undefined ? null : parseMoment(options.to, now);
  if (fromUs !== null && fromUs >= (toUs ?? BigInt(now.getTime()) * 1000n)) {
    const end = toUs === null ? 'now' : formatMoment(toUs);
    throw new AppError(
      'USAGE',
      `unable to draw from ${formatMoment(fromUs)} to ${end}: it ends before it begins`,
    );
  }
  const { readTimeline } = await import('../../operations/timeline/read-timeline.ts');
  const context = await openCommandInstance(run);
  const report = await readTimeline(
    context,
    {
      fromUs,
      toUs,
      table: options.table ?? null,
      minimumRows: options.minRows,
      limit: options.limit,
      mostBuckets: run.flags.json === true ? JSON_BUCKETS : barsWithin(width),
      timeline: options.timeline ?? null,
    },
    { signal: run.signal, onEvent: run.onEvent },
  );
  return { ...withFlags(report, run, options), explanation: await explained(run, report, options) };
}

async function explained(
  run: CommandRun,
  report: TimelineReport,
  options: TimelineOptions,
): Promise<Explanation | null> {
  if (options.explain !== true) return null;
  const { terminal, flags } = run;
  const { readConfig } = await import('../../config/read-config.ts');
  const { ai } = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  return await explainFor(run, ai, {
    subject: 'What the log of a database holds of a stretch of time.',
    facts: factsOfTimeline(report),
    plain: accountOfTimeline(report),
  });
}

/** The commands it prints run as they stand: with what this one was called with. */
function withFlags(report: TimelineReport, { flags }: CommandRun, options: TimelineOptions): TimelineReport {
  const more = [
    ...(options.timeline === undefined ? [] : ['--timeline', String(options.timeline)]),
    ...(flags.instance === undefined ? [] : ['--instance', flags.instance]),
    ...(flags.config === undefined ? [] : ['--config', flags.config]),
  ];
  if (more.length === 0) return report;
  const extend = (command: string): string => `${command} ${shellCommand(more)}`;
  return {
    ...report,
    transactions: report.transactions.map(each => ({
      ...each,
      restore: each.restore === null ? null : extend(each.restore),
    })),
    restorePoints: report.restorePoints.map(each => ({ ...each, restore: extend(each.restore) })),
  };
}
