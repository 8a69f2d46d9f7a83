import { formatCount } from '../../base/sizes.ts';
import type { GuardFacts, GuardTable } from '../../engines/postgres/guard-facts.ts';
import { protectFromMassWrites } from '../../engines/postgres/guard-new-tables.ts';
import {
  ALLOW_MASS_WRITE,
  createTriggerSql,
  type GuardFunction,
  massWriteTriggers,
} from '../../engines/postgres/guard-objects.ts';
import {
  hasEventTrigger,
  laterTablesMissing,
  missingEventTriggerSql,
  revertWithEvents,
} from './event-triggers.ts';
import { type HardenSettings, type Measure, noWork, recordedOption, recordMeasureSql } from './measure.ts';
import {
  hasFunction,
  hasTrigger,
  missingFunctionSql,
  notOwnedReason,
  selectionNotes,
  selectTables,
} from './table-selection.ts';

const NAME = 'mass-write';
const DEFAULT_ROWS = 1000;
const events = [protectFromMassWrites];
const guards: readonly GuardFunction[] = [...new Set(massWriteTriggers.map(trigger => trigger.function))];

export const massWrite: Measure = {
  name: NAME,
  title: 'Refuse a DELETE or UPDATE of too many rows',
  prevents: `A statement whose WHERE is missing or wrong, unless its transaction says SET LOCAL ${ALLOW_MASS_WRITE} = on.`,
  costs:
    'Every DELETE and UPDATE calls a function once, and keeps the old rows it changes until it ends: in memory, then in temporary files. docs/hardening.md has measurements.',
  limits: [
    'It counts the rows of one statement: a loop of small ones passes, and is for the agent to notice.',
    `It is against mistakes: whoever may write may set ${ALLOW_MASS_WRITE}. A job is allowed for good by ALTER ROLE … SET ${ALLOW_MASS_WRITE} = on.`,
    'Replication, and sessions with session_replication_role = replica, are not held up. Foreign tables cannot have it.',
    'Tables made later have it at once, where a superuser has applied this to all tables; otherwise once it is applied again.',
  ],
  choices: (facts, settings) => `at most ${formatCount(rowsFor(facts, settings))} rows for one statement`,
  read(facts, settings) {
    const selection = selectTables(facts, NAME, settings);
    const complete = (table: GuardTable): boolean =>
      massWriteTriggers.every(trigger => hasTrigger(table, trigger, true));
    const missing = [...selection.possible, ...selection.notOwned].filter(table => !complete(table));
    const there = events.filter(event => hasEventTrigger(facts, event));
    const changed = [...guards, ...there.map(event => event.function)].filter(
      guard => !hasFunction(facts, guard),
    );
    const present = facts.tables.filter(complete).length + there.length;
    return {
      present,
      missing: [
        ...(present > 0 ? changed.map(({ name }) => `the function ${name} is not as it was made`) : []),
        ...laterTablesMissing(facts, selection, protectFromMassWrites),
        ...missing.map(({ quoted }) => `${quoted} is not protected`),
      ],
      blocked: selection.possible.length === 0 ? notOwnedReason(selection) : null,
      notes: [...thresholdNotes(facts.tables), ...selectionNotes(selection)],
    };
  },
  apply(facts, settings) {
    const selection = selectTables(facts, NAME, settings);
    const recorded = recordedOption(facts, NAME, 'rows') as number | null;
    const rows = rowsFor(facts, settings);
    const named = new Set(selection.named);
    const tables = new Map<string, readonly string[]>();
    for (const table of selection.possible) {
      const wanted = named.has(table) ? settings.rows : null;
      const statements = massWriteTriggers
        .filter(
          trigger =>
            !hasTrigger(table, trigger, true) || (wanted !== null && rowsOf(table, trigger.name) !== wanted),
        )
        .map(trigger =>
          createTriggerSql(trigger, table.quoted, wanted ?? rowsOf(table, trigger.name) ?? rows),
        );
      if (statements.length > 0) tables.set(table.quoted, statements);
    }
    const whole = settings.tables === null || settings.tables === 'all' || recorded === null;
    return {
      ...noWork,
      statements: [
        ...guards.flatMap(guard => missingFunctionSql(facts, guard)),
        ...(selection.tables === 'all' ? missingEventTriggerSql(facts, events) : []),
        ...recordMeasureSql(facts, NAME, {
          options: { rows: whole ? rows : recorded, tables: selection.tables },
        }),
      ],
      tables,
    };
  },
  revert: facts =>
    revertWithEvents(facts, { measure: NAME, triggers: massWriteTriggers, functions: guards, events }),
};

function rowsFor(facts: GuardFacts, { rows }: HardenSettings): number {
  return rows ?? (recordedOption(facts, NAME, 'rows') as number | null) ?? DEFAULT_ROWS;
}

function rowsOf(table: GuardTable, trigger: string): number | null {
  return table.triggers.find(({ name }) => name === trigger)?.rows ?? null;
}

/** One line for each number of rows that is allowed somewhere. */
function thresholdNotes(tables: readonly GuardTable[]): string[] {
  const names = massWriteTriggers.map(({ name }) => name);
  const counts = new Map<number, Set<string>>();
  for (const table of tables) {
    for (const { name, rows } of table.triggers) {
      if (rows !== null && names.includes(name))
        counts.set(rows, (counts.get(rows) ?? new Set()).add(table.quoted));
    }
  }
  return [...counts].map(
    ([rows, of]) =>
      `at most ${formatCount(rows)} rows for one statement on ${formatCount(of.size)} ${of.size === 1 ? 'table' : 'tables'}`,
  );
}
