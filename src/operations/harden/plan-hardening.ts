import { AppError } from '../../base/errors.ts';
import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import {
  ALLOW_DESTRUCTIVE_DDL,
  createSchemaSql,
  dropFunctionSql,
  dropSchemaSql,
  GUARD_SCHEMA,
  recordFunction,
} from '../../engines/postgres/guard-objects.ts';
import { forgets, type HardenSettings, hasWork, type MeasureName, type MeasureWork } from './measure.ts';
import { measureStatus, measures } from './measures.ts';
import { missingFunctionSql } from './table-selection.ts';

export type HardenAction = 'apply' | 'revert';

/** What is sent to the server in one piece: nobody else ever sees a part of it done, unless it is a single statement. */
export interface WorkUnit {
  readonly title: string;
  readonly measures: readonly MeasureName[];
  /** Complete, with its transaction; exactly what is run. */
  readonly sql: string;
  /** It locks this table, for a moment; null: no table of anybody's. */
  readonly table: string | null;
  /** Done only when all before it was. */
  readonly needsAll: boolean;
}

export interface HardenPlan {
  readonly units: readonly WorkUnit[];
  readonly problems: readonly string[];
}

/**
 * A lock that a trigger needs waits for whoever is writing to that table, and whoever comes later waits behind it: so it
 * waits only a moment, and is tried again.
 */
const LOCK_TIMEOUT = '500ms';

/**
 * What has to be done, as SQL. One transaction makes all that locks no table, one for each table follows: a lock on one
 * table is not held while another is waited for.
 *
 * @throws USAGE HARDEN_REFUSED
 */
export function planHardening(
  facts: GuardFacts,
  request: {
    readonly action: HardenAction;
    readonly measures: readonly MeasureName[];
    readonly settings: HardenSettings;
  },
): HardenPlan {
  refuseWhereNothingIsPossible(facts, request.action);
  const chosen = measures.filter(({ name }) => request.measures.includes(name));
  const works = chosen.flatMap(measure => {
    if (request.action === 'revert') return [{ name: measure.name, work: measure.revert(facts) }];
    const possible = measureStatus(measure, facts, request.settings).state !== 'not possible';
    return possible ? [{ name: measure.name, work: measure.apply(facts, request.settings) }] : [];
  });
  const units = request.action === 'apply' ? applyUnits(facts, works) : revertUnits(facts, works);
  return { units, problems: works.flatMap(({ work }) => work.problems) };
}

function refuseWhereNothingIsPossible({ server }: GuardFacts, action: HardenAction): void {
  const refuse = (why: string, hint: string): never => {
    throw new AppError('HARDEN_REFUSED', `unable to change how '${server.database}' is protected: ${why}`, {
      hint,
    });
  };
  if (server.inRecovery) refuse('the server is in recovery mode', 'Connect to the server that writes.');
  if (server.readOnly) {
    refuse(
      'its transactions are read-only by default',
      'If writes were stopped: `aishell emergency resume-writes`, then the same command again.',
    );
  }
  if (server.schemaOwner !== null && !server.ownsSchema) {
    refuse(
      `the schema ${GUARD_SCHEMA} belongs to ${server.schemaOwner}`,
      'Connect as that role, or as a superuser.',
    );
  }
  if (action === 'apply' && server.schemaOwner === null && !server.mayCreateSchemas)
    refuse(
      'this user may not make a schema in it',
      `GRANT CREATE ON DATABASE ${server.quotedDatabase} TO "${server.user.replaceAll('"', '""')}";`,
    );
}

interface NamedWork {
  readonly name: MeasureName;
  readonly work: MeasureWork;
}

function applyUnits(facts: GuardFacts, works: readonly NamedWork[]): WorkUnit[] {
  const active = works.filter(({ work }) => hasWork(work));
  if (active.length === 0) return [];
  const statements = [
    ...(facts.server.schemaOwner === null ? [createSchemaSql] : []),
    ...missingFunctionSql(facts, recordFunction),
    ...active.flatMap(headed),
  ];
  return [
    ...transactionUnit('Functions, roles and settings', active, statements),
    ...tableUnits(active, []),
    ...apartUnits(active),
  ];
}

function revertUnits(facts: GuardFacts, works: readonly NamedWork[]): WorkUnit[] {
  const active = works.filter(({ work }) => hasWork(work));
  const gone = new Set(
    works.filter(({ work }) => work.problems.length === 0 || forgets(work)).map(({ name }) => name),
  );
  const remaining = facts.measures.filter(({ name }) => !gone.has(name as MeasureName));
  const dropsSchema = facts.server.schemaOwner !== null && remaining.length === 0;
  const recorded = active.some(({ work }) => forgets(work));
  return [
    ...transactionUnit('Functions, roles and settings', active, [
      ...(recorded ? missingFunctionSql(facts, recordFunction) : []),
      ...active.flatMap(headed),
    ]),
    // The event trigger may stay, and would refuse it.
    ...tableUnits(active, [`set local ${ALLOW_DESTRUCTIVE_DDL} = on;`]),
    ...apartUnits(active),
    ...transactionUnit('Functions and records removed', active, [
      ...active.flatMap(({ work }) => work.afterwards),
      ...(dropsSchema ? [dropFunctionSql(recordFunction), dropSchemaSql] : []),
    ]).map(unit => ({ ...unit, needsAll: true })),
  ];
}

function headed({ name, work }: NamedWork): string[] {
  return work.statements.length === 0 ? [] : [`-- ${name}`, ...work.statements];
}

function transactionUnit(
  title: string,
  works: readonly NamedWork[],
  statements: readonly string[],
): WorkUnit[] {
  if (statements.length === 0) return [];
  return [
    {
      title,
      measures: works.map(({ name }) => name),
      sql: transaction(statements),
      table: null,
      needsAll: false,
    },
  ];
}

function tableUnits(works: readonly NamedWork[], before: readonly string[]): WorkUnit[] {
  const tables = new Set(works.flatMap(({ work }) => [...work.tables.keys()]));
  return [...tables].sort().map(table => {
    const own = works.filter(({ work }) => work.tables.has(table));
    return {
      title: table,
      measures: own.map(({ name }) => name),
      sql: transaction([...before, ...own.flatMap(({ work }) => work.tables.get(table) ?? [])]),
      table,
      needsAll: false,
    };
  });
}

function apartUnits(works: readonly NamedWork[]): WorkUnit[] {
  return works.flatMap(({ name, work }) =>
    work.apart.map(({ title, sql }) => ({
      title,
      measures: [name],
      sql,
      table: null,
      needsAll: false,
    })),
  );
}

function transaction(statements: readonly string[]): string {
  return ['begin;', `set local lock_timeout = '${LOCK_TIMEOUT}';`, ...statements, 'commit;'].join('\n');
}
