import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows, type Session, withConnection } from '../../engines/postgres/connection.ts';
import { readGuardFacts } from '../../engines/postgres/guard-facts.ts';
import type { RunOptions } from '../instance-context.ts';
import type { HardenSettings, MeasureName } from './measure.ts';
import { type MeasureStatus, measureStatus, measures } from './measures.ts';
import { type HardenAction, planHardening } from './plan-hardening.ts';
import type { HardenContext } from './read-hardening.ts';
import { READ_ONLY_ROLE } from './read-only-role.ts';
import { type Recommendation, recommendationsFor } from './recommendations.ts';
import { runUnits, type UnitOutcome } from './run-units.ts';

export interface HardenRequest {
  readonly action: HardenAction;
  /** Null: that of the instance's connection. */
  readonly database: string | null;
  /** Null: all. */
  readonly measures: readonly MeasureName[] | null;
  readonly settings: HardenSettings;
  readonly dryRun: boolean;
}

export interface HardenReport {
  readonly action: HardenAction;
  readonly dryRun: boolean;
  readonly instance: string;
  readonly database: string;
  readonly serverVersion: string;
  /** Those that were asked for: as they are now. */
  readonly measures: readonly MeasureStatus[];
  readonly units: readonly UnitOutcome[];
  readonly recommendations: readonly Recommendation[];
  readonly notes: readonly string[];
  /** What needs attention: exit code 3. */
  readonly problems: readonly string[];
}

export interface HardenOptions extends RunOptions {
  /** Asks, or refuses, before anything is changed. */
  confirm(plan: HardenReport): Promise<void>;
}

/**
 * Applies measures to one database, or takes them back: only what is not as it should be is changed.
 *
 * @throws HARDEN_REFUSED CONFIRMATION_REQUIRED LOCKED USAGE; DATABASE_FAILED DATABASE_DENIED DATABASE_UNREACHABLE
 */
export async function harden(
  context: HardenContext,
  request: HardenRequest,
  options: HardenOptions,
): Promise<HardenReport> {
  const where = {
    applicationName: 'aishell harden',
    ...(request.database === null ? {} : { database: request.database }),
  };
  return await withConnection(context.connection, { ...where, signal: options.signal }, async client => {
    if (!request.dryRun) await prepareSession(client);
    const { report: plan, problems } = await plannedReport(client, context, request);
    if (request.dryRun || plan.units.length === 0) return plan;
    await options.confirm(plan);
    const units = await runUnits(client, plan.units, options);
    const failed = units.flatMap(({ table, title, why }) =>
      why === null ? [] : [`${table ?? title}: ${why}`],
    );
    const after = await plannedReport(client, context, request);
    return { ...after.report, units, problems: [...problems, ...failed] };
  });
}

const wantedNames = ({ measures: names }: HardenRequest): readonly MeasureName[] =>
  names ?? measures.map(({ name }) => name);

async function plannedReport(
  client: Session,
  context: HardenContext,
  request: HardenRequest,
): Promise<{ readonly report: HardenReport; readonly problems: readonly string[] }> {
  const facts = await readGuardFacts(client, READ_ONLY_ROLE);
  const names = wantedNames(request);
  const { units, problems } = planHardening(facts, { ...request, measures: names });
  const report: HardenReport = {
    action: request.action,
    dryRun: request.dryRun,
    instance: context.instance,
    database: facts.server.database,
    serverVersion: facts.server.version,
    measures: measures
      .filter(({ name }) => names.includes(name))
      .map(measure => measureStatus(measure, facts, request.settings)),
    units: units.map(unit => ({ ...unit, outcome: 'planned', why: null })),
    recommendations: recommendationsFor(facts.server),
    notes:
      facts.tables.length > 0
        ? []
        : [`the database '${facts.server.database}' holds no tables: --database names another one`],
    problems,
  };
  return { report, problems };
}

/** One at a time in a database; what is changed is durable when it is told. */
async function prepareSession(client: Session): Promise<void> {
  await queryRows(client, 'set up the session', { text: 'set synchronous_commit = local' });
  const { free } = await queryRow<{ free: boolean }>(client, 'see whether somebody is at it already', {
    text: `select pg_try_advisory_lock(hashtextextended('aishell_guard', 0)) as free`,
  });
  if (free) return;
  throw new AppError('LOCKED', 'unable to change how this database is protected: another run is at it', {
    hint: 'Wait until it has ended, then run the same command again.',
  });
}
