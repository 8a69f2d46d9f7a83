import { formatCount } from '../../base/sizes.ts';
import type { Explanation } from '../../explain/explain.ts';
import type { IncidentAnalysis } from '../../operations/incident/analysis.ts';
import { describeTable } from '../../operations/timeline/table-changes.ts';
import { headFacts, impactFacts, tableLine } from './analysis-page.ts';
import { printable } from './page.ts';
import { formatTimeFine } from './time.ts';

/** The report as Markdown, for a file. What comes from outside is escaped: it cannot become markup. */
export function incidentMarkdown(analysis: IncidentAnalysis, explanation: Explanation | null): string {
  const { timeline, cause, culprit, impact, measures, recommendations, unknown } = analysis;
  const query = culprit?.query ?? null;
  const facts = (list: readonly (readonly [string, string | null])[]): string[] =>
    list.flatMap(([name, value]) => (value === null ? [] : [`- ${name}: ${escaped(value)}`]));
  return [
    `# Incident: ${escaped(analysis.headline)}`,
    '',
    ...facts([['Date', analysis.at === null ? null : formatTimeFine(analysis.at)], ...headFacts(analysis)]),
    ...section('Timeline', [
      '| time | since the beginning | what |',
      '|---|---|---|',
      ...timeline.map(
        ({ at, sinceSeconds, text }) =>
          `| ${formatTimeFine(at)} | +${sinceSeconds.toFixed(3)}s | ${escaped(text)} |`,
      ),
    ]),
    ...section('Root cause', [
      ...cause.map(text => `- ${escaped(text)}`),
      ...(query === null ? [] : ['', ...codeBlock(query)]),
    ]),
    ...section('Impact', [
      ...impact.tables.map(table => `- ${escaped(tableLine(table))}`),
      ...facts(impactFacts(analysis)),
      ...(impact.lost?.tables ?? []).map(each => {
        const name = describeTable({ ...each, partitionOf: null, estimatedRows: null });
        return `  - ${escaped(name)}: ${formatCount(each.inserted)} inserted, ${formatCount(each.updated)} updated, ${formatCount(each.deleted)} deleted`;
      }),
    ]),
    ...section(
      'Prevention measures',
      measures.map(({ name, isInForce }) => `- [${isInForce === true ? 'x' : ' '}] ${escaped(name)}`),
    ),
    ...section(
      'Recommendations',
      recommendations.flatMap(({ text, command }, index) => [
        `${index + 1}. ${escaped(text)}`,
        ...(command === null ? [] : ['', `   \`${command}\``, '']),
      ]),
    ),
    ...section(
      'Not known',
      unknown.map(text => `- ${escaped(text)}`),
    ),
    ...section('In plain words', explanation === null ? [] : explanationLines(explanation)),
    '',
  ].join('\n');
}

function explanationLines({ by, model, text }: Explanation): string[] {
  const lines = text.split('\n').map(escaped);
  if (by === 'rules') return lines;
  const mark = `Written by a language model (${model}) from the facts above. It may be wrong; they count.`;
  return [...lines, '', `*${escaped(mark)}*`];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `## ${title}`, '', ...lines];
}

/** A fence longer than any run of backticks within: the text cannot end it. */
function codeBlock(text: string): string[] {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(Math.max(3, longest + 1));
  return [`${fence}sql`, ...text.split('\n').map(printable), fence];
}

function escaped(text: string): string {
  return printable(text).replace(/[\\`*_{}[\]<>#|~]/g, '\\$&');
}
