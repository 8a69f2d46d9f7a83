import type { OnEvent, TellNote } from '../base/events.ts';
import { type InstanceAgentOptions, type InstanceAgentResult, runInstanceAgent } from './instance-agent.ts';

export interface AgentResult {
  readonly instances: readonly InstanceAgentResult[];
}

/**
 * Runs the agents of several instances in one process until the signal aborts. One that cannot start ends all: whoever
 * starts the agent must see it.
 *
 * @throws as runInstanceAgent
 */
export async function runAgent(
  instances: readonly Omit<InstanceAgentOptions, 'note'>[],
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<AgentResult> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const outcomes = await Promise.allSettled(
    instances.map(async each => {
      const { instance } = each.context;
      try {
        const note = noteOf(instance, instances.length > 1, options.onEvent);
        return await runInstanceAgent({ ...each, note }, signal);
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }),
  );
  if (failed.signal.aborted) throw failed.signal.reason;
  return { instances: outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? outcome.value : [])) };
}

/** Notes of several instances say whose they are. */
function noteOf(instance: string, isNamed: boolean, onEvent: OnEvent): TellNote {
  return (level, message, { topic, ...facts }) =>
    onEvent({
      type: 'note',
      level,
      message: isNamed ? `${instance}: ${message}` : message,
      topic,
      facts: { instance, at: new Date().toISOString(), ...facts },
    });
}
