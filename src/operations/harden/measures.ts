import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import { auditLogging } from './audit-logging.ts';
import { destructiveDdl } from './destructive-ddl.ts';
import { massWrite } from './mass-write.ts';
import {
  type HardenSettings,
  type Measure,
  type MeasureName,
  type MeasureState,
  noSettings,
} from './measure.ts';
import { readOnlyRole } from './read-only-role.ts';
import { statementTimeout } from './statement-timeout.ts';

export const measures: readonly Measure[] = [
  massWrite,
  destructiveDdl,
  readOnlyRole,
  statementTimeout,
  auditLogging,
];

/** How a measure stands in a database. */
export interface MeasureStatus {
  readonly name: MeasureName;
  readonly title: string;
  readonly state: MeasureState;
  /** When it was applied; null when that is not on record. ISO 8601 in UTC. */
  readonly since: string | null;
  readonly by: string | null;
  /** What it is, or would be, applied with; null: there is nothing to choose. */
  readonly choices: string | null;
  readonly prevents: string;
  readonly costs: string;
  readonly limits: readonly string[];
  /** What is not there. Of a measure that was applied, it was made since, or taken away. */
  readonly missing: readonly string[];
  readonly blocked: string | null;
  readonly notes: readonly string[];
}

/** @throws USAGE the settings name a table that is not there */
export function measureStatus(
  measure: Measure,
  facts: GuardFacts,
  settings: HardenSettings = noSettings,
): MeasureStatus {
  const recorded = facts.measures.find(({ name }) => name === measure.name) ?? null;
  const { present, missing, blocked, notes } = measure.read(facts, settings);
  const complete = missing.length === 0 && (present > 0 || recorded !== null);
  const some = present > 0 || recorded !== null;
  return {
    name: measure.name,
    title: measure.title,
    state: complete ? 'in force' : some ? 'partly' : blocked === null ? 'off' : 'not possible',
    since: recorded?.since ?? null,
    by: recorded?.by ?? null,
    choices: measure.choices?.(facts, settings) ?? null,
    prevents: measure.prevents,
    costs: measure.costs,
    limits: measure.limits,
    missing,
    blocked,
    notes,
  };
}
