import type { Command } from 'commander';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { drawIncident } from '../render/incident-page.ts';

/** `aishell incident show [ID]` */
export function addIncidentShow(cli: Cli, group: Command): void {
  const command = group
    .command('show')
    .description('one incident in full: what, who, when, what is held, what to do')
    .argument('[id]', 'its id, or the end of it; the last one when left out');
  addExamples(command, [
    ['aishell incident show', 'the last one'],
    ['aishell incident show a1b2c3', 'by the end of its id'],
  ]).action((id: string | undefined) =>
    cli.run(command, {
      async run(run) {
        const [{ readIncident }, context] = await Promise.all([
          import('../../operations/incident/incident-store.ts'),
          openCommandInstance(run),
        ]);
        return await readIncident(context, id ?? 'latest', { signal: run.signal });
      },
      draw: drawIncident,
    }),
  );
}
