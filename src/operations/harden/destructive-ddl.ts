import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import {
  ALLOW_DESTRUCTIVE_DDL,
  createEventTriggerSql,
  createTriggerSql,
  dropEventTriggerSql,
  dropFunction,
  EVENT_TRIGGER,
  GUARD_SCHEMA,
  truncateTrigger,
} from '../../engines/postgres/guard-objects.ts';
import { type Measure, noWork, recordMeasureSql } from './measure.ts';
import { revertTriggers } from './revert-triggers.ts';
import {
  hasFunction,
  hasTrigger,
  missingFunctionSql,
  notOwnedReason,
  selectTables,
} from './table-selection.ts';

const NAME = 'destructive-ddl';
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
    'Tables made later have it once this is applied again; `aishell security status` names them.',
  ],
  read(facts, settings) {
    const selection = selectTables(facts, NAME, settings);
    const wanted = [...selection.possible, ...selection.notOwned, ...selection.foreign];
    const bare = wanted.filter(table => !hasTrigger(table, truncateTrigger, false));
    const tables = facts.tables.filter(table => hasTrigger(table, truncateTrigger, false)).length;
    const present = tables + (hasEventTrigger(facts) ? 1 : 0);
    const changed = [truncateTrigger.function, ...(hasEventTrigger(facts) ? [dropFunction] : [])].filter(
      guard => !hasFunction(facts, guard),
    );
    return {
      present,
      missing: [
        ...(present > 0 ? changed.map(({ name }) => `the function ${name} is not as it was made`) : []),
        ...(hasEventTrigger(facts) ? [] : [dropNotRefused(facts)]),
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
    const makesEvent = facts.server.superuser && !hasEventTrigger(facts);
    return {
      ...noWork,
      statements: [
        ...missingFunctionSql(facts, truncateTrigger.function),
        ...(facts.server.superuser ? missingFunctionSql(facts, dropFunction) : []),
        ...(makesEvent ? [createEventTriggerSql] : []),
        ...recordMeasureSql(facts, NAME, { options: { tables: selection.tables } }),
      ],
      tables,
    };
  },
  revert(facts) {
    const { server } = facts;
    const there = server.eventTriggers.length > 0;
    if (there && !server.superuser)
      return {
        ...noWork,
        problems: [`the event trigger ${EVENT_TRIGGER} stays: only a superuser can drop it`],
      };
    const work = revertTriggers(facts, {
      measure: NAME,
      triggers: [truncateTrigger],
      functions: [truncateTrigger.function, dropFunction],
    });
    return { ...work, statements: there ? [dropEventTriggerSql] : [] };
  },
};

function hasEventTrigger({ server }: GuardFacts): boolean {
  return server.eventTriggers.some(
    ({ enabled, function: called }) => enabled && called === `${GUARD_SCHEMA}.${dropFunction.name}`,
  );
}

function dropNotRefused({ server }: GuardFacts): string {
  return server.superuser ? 'DROP is not refused: there is no event trigger' : WITHOUT_EVENT_TRIGGER;
}
