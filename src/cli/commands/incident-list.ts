import type { Command } from 'commander';
import { formatCount } from '../../base/sizes.ts';
import { describeIncident } from '../../operations/incident/describe-incident.ts';
import { heldFor } from '../../operations/incident/held-for.ts';
import type { Incident } from '../../operations/incident/incident.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { type Page, printable, truncate } from '../render/page.ts';
import { formatTimeShort } from '../render/time.ts';

interface IncidentList {
  readonly instance: string;
  /** Newest first. */
  readonly incidents: readonly Incident[];
}

/** What fits a terminal of 100 columns beside the other columns. */
const WHAT_WIDTH = 46;

/** `aishell incident list` */
export function addIncidentList(cli: Cli, group: Command): void {
  const command = group
    .command('list')
    .description('disasters that were noticed, newest first')
    .option('--open', 'only those that are not resolved');
  addExamples(command, [
    ['aishell incident list', 'all of them'],
    ['aishell incident list --open --json', 'what needs somebody, for scripts'],
  ]).action((options: { readonly open?: boolean }) =>
    cli.run(command, {
      async run(run): Promise<IncidentList> {
        const [{ readIncidents }, context] = await Promise.all([
          import('../../operations/incident/incident-store.ts'),
          openCommandInstance(run),
        ]);
        const all = await readIncidents(context, { signal: run.signal });
        const incidents = all.filter(({ status }) => options.open !== true || status === 'open').reverse();
        return { instance: context.instance, incidents };
      },
      draw: drawList,
    }),
  );
}

function drawList(page: Page, { instance, incidents }: IncidentList): void {
  if (incidents.length === 0) {
    page.line(`No incidents of '${instance}'.`);
    return;
  }
  page.title(`🚨 Incidents of ${instance}`);
  page.table(
    ['ID', 'Noticed (UTC)', 'What', 'Status'],
    incidents.map(each => [
      // What is left out is the same for all: `incident show 053ebf` knows it by its end.
      each.id.replace(/^incident_\d{8}_\d{6}_/, ''),
      formatTimeShort(each.detectedAt),
      truncate(printable(describeIncident(each)), WHAT_WIDTH),
      each.status,
    ]),
  );
  const held = incidents.filter(each => heldFor(each).length > 0);
  page.line();
  page.line(
    held.length === 0
      ? `Total: ${formatCount(incidents.length)}. Nothing is held on the server.`
      : `Total: ${formatCount(incidents.length)}. The server keeps something for ${formatCount(held.length)}: see \`aishell incident show ${held[0]?.id.slice(-6)}\`.`,
  );
}
