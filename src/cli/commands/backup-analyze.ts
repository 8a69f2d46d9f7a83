import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { AppError, fileError } from '../../base/errors.ts';
import type { Explanation } from '../../explain/explain.ts';
import { accountOfIncident, factsOfIncident } from '../../operations/incident/account-of-incident.ts';
import type { IncidentAnalysis } from '../../operations/incident/analysis.ts';
import type { AnalysisRequest } from '../../operations/incident/analyze-incident.ts';
import { parseDescribedChange } from '../../operations/timeline/described-change.ts';
import { addExamples, type Cli } from '../cli.ts';
import { drawExplanation, explainFor } from '../explained.ts';
import { openCommandInstance } from '../open-instance.ts';
import { parseXid } from '../recovery-target.ts';
import { drawAnalysis } from '../render/analysis-page.ts';
import { incidentMarkdown } from '../render/incident-markdown.ts';
import type { CommandRun } from '../run-command.ts';

interface AnalyzeOptions {
  readonly xid?: string;
  readonly change?: string;
  readonly output?: string;
  readonly explain?: boolean;
}

interface AnalysisResult extends IncidentAnalysis {
  /** The file that the report was written to. */
  readonly file: string | null;
  /** In plain words; null: not wanted. */
  readonly explanation: Explanation | null;
}

/** `aishell backup analyze-incident` */
export function addBackupAnalyze(cli: Cli, group: Command): void {
  const command = group
    .command('analyze-incident')
    .description('report a disaster: what happened when, why, what it cost, what keeps it from coming back')
    .argument(
      '[id]',
      "an incident on record: its id, the end of it, or 'latest'; without one, the last, or what is worst in the log",
    )
    .option('--xid <transaction>', 'of the log, where nothing is on record')
    .option('--change <description>', 'the same in words: "the delete on users"')
    .option('--output <file>', 'write the report as Markdown')
    .option('--explain', 'also in plain words, by a language model where one is configured (default)')
    .option('--no-explain', 'only the facts');
  addExamples(command, [
    ['aishell backup analyze-incident', 'the last one'],
    ['aishell backup analyze-incident abc123', 'one that is on record'],
    ['aishell backup analyze-incident --change "the delete on users"', 'from the log alone'],
    ['aishell backup analyze-incident --output incident.md', 'for colleagues'],
  ]).action((id: string | undefined, options: AnalyzeOptions) =>
    cli.run(command, {
      title: '📊 Incident Analysis Report',
      run: run => runAnalysis(run, id, options),
      draw: (page, result) => {
        drawAnalysis(page, result);
        drawExplanation(page, result.explanation);
        if (result.file !== null) page.line(`\nWritten to ${result.file}`);
      },
    }),
  );
}

async function runAnalysis(
  run: CommandRun,
  id: string | undefined,
  options: AnalyzeOptions,
): Promise<AnalysisResult> {
  const about = aboutOf(id, options);
  const { terminal, flags, signal, onEvent } = run;
  const [{ readConfig }, { openAnalysis }, { analyzeIncident }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-analysis.ts'),
    import('../../operations/incident/analyze-incident.ts'),
  ]);
  const { env, cwd } = terminal;
  const config = readConfig({ file: flags.config, env, cwd });
  const context = await openCommandInstance(run);
  const known = openAnalysis(config, { env, instance: flags.instance });
  const analysis = await analyzeIncident(context, { ...known, about }, { signal, onEvent });
  const explanation =
    options.explain !== false
      ? await explainFor(run, config.ai, {
          subject: 'A report of an incident: a disaster in a database, how it went, and what came of it.',
          facts: factsOfIncident(analysis),
          plain: accountOfIncident(analysis),
        })
      : null;
  const file = options.output === undefined ? null : resolve(cwd, options.output);
  if (file !== null) await writeReport(file, incidentMarkdown(analysis, explanation));
  return { ...analysis, explanation, file };
}

/** @throws USAGE TIME_AMBIGUOUS */
function aboutOf(id: string | undefined, { xid, change }: AnalyzeOptions): AnalysisRequest['about'] {
  if ([id, xid, change].filter(given => given !== undefined).length > 1) {
    throw new AppError('USAGE', 'unable to choose an incident: an id, --xid and --change exclude each other');
  }
  if (id !== undefined) return { kind: 'incident', id };
  if (xid !== undefined) return { kind: 'xid', xid: parseXid(xid) };
  if (change === undefined) return null;
  const described = parseDescribedChange(
    /^\s*(just |right )?(before|after)\b/i.test(change) ? change : `before ${change}`,
  );
  return described === null ? null : { kind: 'change', change: described };
}

async function writeReport(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text, { mode: 0o600 });
  } catch (error) {
    throw fileError('write', file, error);
  }
}
