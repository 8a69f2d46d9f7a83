import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import { protectFromDestructiveDdl } from '../../engines/postgres/guard-new-tables.ts';
import {
  ALLOW_DESTRUCTIVE_DDL,
  createTriggerSql,
  refuseDropEvent,
  truncateTrigger,
} from '../../engines/postgres/guard-objects.ts';
import {
  hasEventTrigger,
  laterTablesMissing,
  missingEventTriggerSql,
  revertWithEvents,
} from './event-triggers.ts';
import { type Measure, noWork, recordMeasureSql } from './measure.ts';
import {
  hasFunction,
  hasTrigger,
  missingFunctionSql,
  notOwnedReason,
  selectTables,
} from './table-selection.ts';

const NAME = 'destructive-ddl';
const events = [refuseDropEvent, protectFromDestructiveDdl];
const WITHOUT_EVENT_TRIGGER =
  'only a superuser can make an event trigger: without it TRUNCATE is refused, and DROP is not';

export const destructiveDdl: Measure = {
  name: NAME,
  title: 'Refuse TRUNCATE and DROP',
  prevents: `TRUNCATE of a protected table, and whatever drops it or a column of it, DROP SCHEMA … CASCADE too, unless the transaction says SET LOCAL ${ALLOW_DESTRUCTIVE_DDL} = on.`,
  costs: 'A look at what was dropped, whenever something is. Reading and writing rows costs nothing.',
  limits: [
    'DROP DATABASE is not seen by any trigger: see the recommendations.',
    'Migrations that drop columns or tables have to say that they mean it; so does whoever drops old partitions.',
    'Views are not protected: no rows go with them. DROP SCHEMA aishell_guard CASCADE takes the protection itself away.',
    'Tables made later have it at once, where a superuser has applied this to all tables; otherwise once it is applied again.',
  ],
  read(facts, settings) {
    const selection = selectTables(facts, NAME, settings);
    const wanted = [...selection.possible, ...selection.notOwned, ...selection.foreign];
    const bare = wanted.filter(table => !hasTrigger(table, truncateTrigger, false));
    const tables = facts.tables.filter(table => hasTrigger(table, truncateTrigger, false)).length;
    const there = events.filter(event => hasEventTrigger(facts, event));
    const present = tables + there.length;
    const changed = [truncateTrigger.function, ...there.map(event => event.function)].filter(
      guard => !hasFunction(facts, guard),
    );
    return {
      present,
      missing: [
        ...(present > 0 ? changed.map(({ name }) => `the function ${name} is not as it was made`) : []),
        ...(hasEventTrigger(facts, refuseDropEvent) ? [] : [dropNotRefused(facts)]),
        ...laterTablesMissing(facts, selection, protectFromDestructiveDdl),
        ...bare.map(({ quoted }) => `${quoted} is not protected`),
      ],
      blocked: selection.possible.length + selection.foreign.length === 0 ? notOwnedReason(selection) : null,
      notes: [],
    };
  },
  apply(facts, settings) {
    const selection = selectTables(facts, NAME, settings);
    const tables = new Map(
      facts.tables
        .filter(table => [...selection.possible, ...selection.foreign].includes(table) && table.owned)
        .filter(table => !hasTrigger(table, truncateTrigger, false))
        .map(table => [table.quoted, [createTriggerSql(truncateTrigger, table.quoted, null)]]),
    );
    return {
      ...noWork,
      statements: [
        ...missingFunctionSql(facts, truncateTrigger.function),
        ...missingEventTriggerSql(facts, selection.tables === 'all' ? events : [refuseDropEvent]),
        ...recordMeasureSql(facts, NAME, { options: { tables: selection.tables } }),
      ],
      tables,
    };
  },
  revert: facts =>
    revertWithEvents(facts, {
      measure: NAME,
      triggers: [truncateTrigger],
      functions: [truncateTrigger.function],
      events,
    }),
};

function dropNotRefused({ server }: GuardFacts): string {
  return server.superuser ? 'DROP is not refused: there is no event trigger' : WITHOUT_EVENT_TRIGGER;
}
