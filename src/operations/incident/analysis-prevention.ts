import { AppError } from '../../base/errors.ts';
import { queryRow, withConnection } from '../../engines/postgres/connection.ts';
import { readServerFacts } from '../../engines/postgres/server-facts.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { MeasureName } from '../harden/measure.ts';
import { readHardening } from '../harden/read-hardening.ts';
import type { InstanceContext } from '../instance-context.ts';
import { archivingOf, isStreamed } from '../server-picture.ts';
import type { Measure, Recommendation } from './analysis.ts';
import type { Incident } from './incident.ts';
import { isRateIncident, rateTimelineCommand } from './rate-incident.ts';

/** What a running server says that a report needs. */
export interface ServerSigns {
  readonly measures: readonly Measure[];
  /** Of the role that did it; null where that is not known. */
  readonly isSuperuser: boolean | null;
  /** The command that applies what is not in force to the database it happened in. */
  readonly harden: string;
}

const REFUSES_ROWS = 'A DELETE or UPDATE of too many rows is refused';
const REFUSES_LOSS = 'TRUNCATE and DROP are refused';
/** As they are called in a report. How statements are logged is read from the server, as others may have set it. */
const hardened: Readonly<Partial<Record<MeasureName, string>>> = {
  'mass-write': REFUSES_ROWS,
  'destructive-ddl': REFUSES_LOSS,
  'read-only-role': 'There is a role for those who only read',
  'statement-timeout': 'Statements have a time limit',
};

/** Looks at the server. One that does not answer says nothing, and that is no reason not to report. */
export async function readSigns(
  context: Pick<InstanceContext, 'connection' | 'instance'>,
  of: { readonly role: string | null; readonly database: string | null },
  signal: AbortSignal,
): Promise<ServerSigns> {
  const harden = hardenCommand(context, of.database);
  try {
    const measures = await readMeasures(context, { database: of.database, harden }, signal);
    return await withConnection(context.connection, { signal }, async client => {
      const facts = await readServerFacts(client, signal);
      const { logs, superuser } = await queryRow<{ logs: boolean; superuser: boolean | null }>(
        client,
        'read how statements are logged',
        {
          text: `select current_setting('log_statement') in ('mod', 'all')
                          or current_setting('shared_preload_libraries') ~ '(^|[, ])pgaudit' as logs,
                        (select rolsuper from pg_roles where rolname = $1) as superuser`,
          values: [of.role],
          signal,
        },
      );
      return {
        isSuperuser: superuser,
        harden,
        measures: [
          measure('The log is archived', archivingOf(facts) === 'on', 'aishell doctor'),
          measure('The agent watches the log as it is written', isStreamed(facts), 'aishell agent run'),
          measure('Statements that change data are written to the log of the server', logs, harden),
          ...measures,
        ],
      };
    });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    return { measures: [], isSuperuser: null, harden };
  }
}

/** What is in force in a database; one that is gone, as it was dropped, has nothing. */
async function readMeasures(
  context: Pick<InstanceContext, 'connection' | 'instance'>,
  { database, harden }: { readonly database: string | null; readonly harden: string },
  signal: AbortSignal,
): Promise<Measure[]> {
  try {
    const { measures } = await readHardening(context, { database }, { signal });
    return measures.flatMap(({ name, state }) => {
      const title = hardened[name];
      return title === undefined ? [] : [measure(title, state === 'in force', harden)];
    });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    return [];
  }
}

/** It is about one database at a time, and without its name about that of the connection. */
function hardenCommand({ connection }: Pick<InstanceContext, 'connection'>, database: string | null): string {
  const named = database === null || database === connection.database ? [] : ['--database', database];
  return shellCommand(['aishell', 'security', 'harden', '--apply-recommendations', ...named]);
}

function measure(name: string, isInForce: boolean, command: string): Measure {
  return { name, isInForce, command };
}

/** What to do now and for the next time, each with its command. What is in force already is left out. */
export function recommendationsFor(
  incident: Incident,
  known: {
    readonly measures: readonly Measure[];
    readonly isSuperuser: boolean | null;
    readonly harden: string;
    readonly isRecorded: boolean;
    /** The command that goes back to before it; null where no backup reaches back so far. */
    readonly restore: string | null;
  },
): Recommendation[] {
  const acts = new Set(incident.tables.map(({ act }) => act));
  const isOpen = incident.status === 'open' && incident.transaction.outcome === 'committed';
  const before = known.isRecorded
    ? shellCommand(['aishell', 'backup', 'restore', '--before-incident', incident.id])
    : known.restore;
  const undo = shellCommand([
    ...['aishell', 'backup', 'undo'],
    ...(known.isRecorded ? [incident.id] : ['--xid', String(incident.transaction.xid)]),
  ]);
  const found: Recommendation[] = [];
  if (isOpen && isRateIncident(incident))
    found.push({ text: 'See which transactions did it', command: rateTimelineCommand(incident) });
  else if (isOpen && (incident.recoveries ?? []).every(({ mode }) => mode !== 'in-place'))
    found.push(
      { text: 'Bring the data back: it is not back yet', command: before },
      { text: 'Or put back its rows alone: the server stays open, later writes stay', command: undo },
    );
  const isOff = (name: string): boolean =>
    known.measures.every(each => each.name !== name || each.isInForce !== true);
  if (isOff(REFUSES_ROWS) && (acts.has('delete') || acts.has('update') || acts.has('rate')))
    found.push({
      text: 'Refuse a DELETE or UPDATE of many rows that was not allowed first',
      command: known.harden,
    });
  if (isOff(REFUSES_LOSS) && (acts.has('truncate') || acts.has('drop')))
    found.push({ text: 'Refuse TRUNCATE and DROP of tables that matter', command: known.harden });
  if (known.isSuperuser === true)
    found.push({
      text: `Let ${incident.culprit?.role} work as a role with fewer rights`,
      command: known.harden,
    });
  for (const { name, isInForce, command } of known.measures)
    if (isInForce === false && name !== REFUSES_ROWS && name !== REFUSES_LOSS)
      found.push({ text: `Not in force: ${lowerFirst(name)}`, command });
  return found;
}

function lowerFirst(text: string): string {
  return `${text.slice(0, 1).toLowerCase()}${text.slice(1)}`;
}
