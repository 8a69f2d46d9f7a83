import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import {
  createEventTriggerSql,
  dropEventTriggerSql,
  GUARD_SCHEMA,
  type GuardEvent,
} from '../../engines/postgres/guard-objects.ts';
import { type MeasureWork, noWork } from './measure.ts';
import { revertTriggers } from './revert-triggers.ts';
import { missingFunctionSql, type TableSelection } from './table-selection.ts';

/** It is there, enabled, and calls our function. */
export function hasEventTrigger({ server }: GuardFacts, { name, function: called }: GuardEvent): boolean {
  return server.eventTriggers.some(
    found => found.name === name && found.enabled && found.function === `${GUARD_SCHEMA}.${called.name}`,
  );
}

/** What is to be said of tables that are made later: for a user who may make event triggers it is missing, for others a fact. */
export function laterTablesMissing(
  facts: GuardFacts,
  { tables }: Pick<TableSelection, 'tables'>,
  event: GuardEvent,
): string[] {
  const isWanted = facts.server.superuser && tables === 'all' && !hasEventTrigger(facts, event);
  return isWanted ? ['tables made later are not protected: there is no event trigger'] : [];
}

/** What makes event triggers that are not there, or not as they were made; [] for a user who may not make one. */
export function missingEventTriggerSql(facts: GuardFacts, events: readonly GuardEvent[]): string[] {
  if (!facts.server.superuser) return [];
  return events.flatMap(event => [
    ...missingFunctionSql(facts, event.function),
    ...(hasEventTrigger(facts, event) ? [] : [createEventTriggerSql(event)]),
  ]);
}

/** Takes event triggers away first, so that they protect nothing anew, then everything else as {@link revertTriggers} does. */
export function revertWithEvents(
  facts: GuardFacts,
  of: Parameters<typeof revertTriggers>[1] & { readonly events: readonly GuardEvent[] },
): MeasureWork {
  const there = of.events.filter(({ name }) => facts.server.eventTriggers.some(found => found.name === name));
  if (there.length > 0 && !facts.server.superuser)
    return {
      ...noWork,
      problems: there.map(({ name }) => `the event trigger ${name} stays: only a superuser can drop it`),
    };
  const functions = [...of.functions, ...of.events.map(event => event.function)];
  return { ...revertTriggers(facts, { ...of, functions }), statements: there.map(dropEventTriggerSql) };
}
