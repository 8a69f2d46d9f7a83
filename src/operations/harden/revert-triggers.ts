import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import {
  dropFunctionSql,
  dropTriggerSql,
  type GuardFunction,
  type GuardTrigger,
} from '../../engines/postgres/guard-objects.ts';
import { forgetMeasureSql, type MeasureName, type MeasureWork, noWork } from './measure.ts';

/** Takes triggers from whatever table has them, whatever is on record, and at the end the functions they have called. */
export function revertTriggers(
  facts: GuardFacts,
  of: {
    readonly measure: MeasureName;
    readonly triggers: readonly GuardTrigger[];
    readonly functions: readonly GuardFunction[];
  },
): MeasureWork {
  const tables = new Map<string, readonly string[]>();
  const problems: string[] = [];
  for (const table of facts.tables) {
    const there = of.triggers.filter(({ name }) => table.triggers.some(found => found.name === name));
    if (there.length === 0) continue;
    if (table.owned)
      tables.set(
        table.quoted,
        there.map(trigger => dropTriggerSql(trigger, table.quoted)),
      );
    else problems.push(`${table.quoted} keeps its protection: this user does not own it`);
  }
  // While a trigger is left, its function has to stay, and so has the record.
  if (problems.length > 0) return { ...noWork, tables, problems };
  const there = of.functions.filter(({ name }) => facts.server.functions.some(found => found.name === name));
  return {
    ...noWork,
    tables,
    afterwards: [...there.map(dropFunctionSql), ...forgetMeasureSql(facts, of.measure)],
  };
}
