import type { Config } from '../config/config.ts';
import { selectInstance } from '../config/to-config.ts';
import type { Alerting } from '../notify/alerting.ts';
import { toldAt } from '../notify/history.ts';
import { readHistory } from '../notify/history-file.ts';
import type { AnalysisRequest } from '../operations/incident/analyze-incident.ts';
import { openAlerting } from './open-alerting.ts';

/** What the report of an incident needs of the configuration, and of what people were told. */
export function openAnalysis(
  config: Config,
  options: { readonly env: NodeJS.ProcessEnv; readonly instance?: string | undefined },
): Omit<AnalysisRequest, 'about'> {
  const instance = selectInstance(config, options.instance);
  const alerting = openAlerting(config, options.env);
  return {
    cost: instance.downtimeCost,
    measures: [
      {
        name: 'People are told when something is wrong',
        isInForce: alerting.channels.length > 0,
        command: 'aishell backup alert configure',
      },
    ],
    told: incident => toldOf(alerting, `aishell/${instance.name}/incident/${incident}`),
  };
}

async function toldOf(
  { channels, directory }: Alerting,
  dedupKey: string,
): Promise<{ readonly at: string; readonly event: string; readonly text: string }[]> {
  if (directory === null) return [];
  const history = await readHistory(directory);
  return channels.flatMap(({ name }) => {
    const at = toldAt(history, name, dedupKey);
    return at === null
      ? []
      : [{ at: new Date(at).toISOString(), event: 'alerted', text: `alert sent to ${name}` }];
  });
}
