import type { GuardFacts, RecordedChange } from '../../engines/postgres/guard-facts.ts';
import { settingSql } from '../../engines/postgres/write-controls.ts';
import {
  forgetMeasureSql,
  type HardenSettings,
  type Measure,
  type MeasureWork,
  noWork,
  recordedOption,
  recordMeasureSql,
} from './measure.ts';

const NAME = 'audit-logging';
const STATEMENT = 'log_statement';
const PREFIX = 'log_line_prefix';

/** What a line has to say of who did it. %r is client and port. @source PostgreSQL manual, "log_line_prefix" */
const prefixParts: readonly { readonly escapes: RegExp; readonly text: string }[] = [
  { escapes: /%-?\d*u/, text: 'user=%u' },
  { escapes: /%-?\d*d/, text: 'db=%d' },
  { escapes: /%-?\d*a/, text: 'app=%a' },
  { escapes: /%-?\d*[hr]/, text: 'client=%h' },
];

/** From what logs nothing to what logs everything. */
const order = ['none', 'ddl', 'mod', 'all'];

export const auditLogging: Measure = {
  name: NAME,
  title: 'Log every statement that changes something, and who sent it',
  prevents:
    'That nobody can say afterwards who did it, and from where. It is set for this database; sessions that begin from then on are logged.',
  costs:
    'A line in the log of the server for each statement that writes (with --log-statement ddl: that changes tables), and the room for them.',
  limits: [
    'The log holds what the statements hold: data, and a password that somebody sets with ALTER ROLE.',
    `${PREFIX} is of the whole server, and what reads its log has to understand it; the present one is kept, and added to.`,
    'Superusers can turn it off for themselves.',
  ],
  choices: (facts, settings) => `${STATEMENT} = ${wantedStatement(facts, settings)}`,
  read(facts, settings) {
    const parts = [statementPart(facts, settings), prefixPart(facts)];
    return {
      present: parts.filter(({ done }) => done).length,
      missing: parts.filter(({ done }) => !done).map(({ missing }) => missing),
      blocked: parts.every(({ done, blocked }) => !done && blocked !== null)
        ? (parts[0]?.blocked ?? null)
        : null,
      notes: parts.flatMap(({ done, blocked }) => (done || blocked === null ? [] : [blocked])),
    };
  },
  apply(facts, settings) {
    const [statement, prefix] = [statementPart(facts, settings), prefixPart(facts)];
    const todo = [statement, prefix].filter(({ done, blocked }) => !done && blocked === null);
    const wanted = wantedStatement(facts, settings);
    const changes = todo.map(({ change }) => change);
    return {
      ...noWork,
      statements: [
        // What cannot be in a transaction is on record before it is done.
        ...(todo.length > 0 || statement.done
          ? recordMeasureSql(facts, NAME, { options: { [STATEMENT]: wanted }, changes })
          : []),
        ...todo.flatMap(({ apart, sql }) => (apart ? [] : [sql])),
      ],
      apart: todo.some(({ apart }) => apart) ? [prefixStatement(prefix.sql), RELOAD] : [],
    };
  },
  revert: revertLogging,
};

const RELOAD = { title: 'Configuration read again', sql: 'select pg_catalog.pg_reload_conf();' };

const prefixStatement = (sql: string): MeasureWork['apart'][number] => ({
  title: `Setting of the server: ${PREFIX}`,
  sql,
});

interface Part {
  readonly done: boolean;
  readonly missing: string;
  readonly blocked: string | null;
  readonly change: Omit<RecordedChange, 'measure'>;
  readonly apart: boolean;
  readonly sql: string;
}

function wantedStatement(facts: GuardFacts, settings: Pick<HardenSettings, 'logStatement'>): string {
  return settings.logStatement ?? (recordedOption(facts, NAME, STATEMENT) as string | null) ?? 'mod';
}

function statementPart(facts: GuardFacts, settings: HardenSettings): Part {
  const { log, server } = facts;
  const wanted = wantedStatement(facts, settings);
  const known = changeOf(facts, STATEMENT);
  const own = log.database[STATEMENT];
  const ours = known !== undefined && own === known.since;
  // What counts for a session that is nobody's in particular.
  const present = own ?? (/^(user|database)/.test(log.statement.source) ? 'none' : log.statement.value);
  // Set here, it is exactly what was asked for; set by somebody, more is as good.
  const done = ours ? own === wanted : order.indexOf(present) >= order.indexOf(wanted);
  const change = { kind: 'role-setting', role: null, name: STATEMENT, since: wanted } as const;
  return {
    done,
    missing: `${STATEMENT} is ${present} in this database`,
    blocked: server.superuser ? null : `only a superuser can set ${STATEMENT}`,
    change: { ...change, before: ours ? known.before : (own ?? null) },
    apart: false,
    sql: databaseSetting(facts, wanted),
  };
}

function databaseSetting({ server }: GuardFacts, value: string | null): string {
  const change = { kind: 'role-setting', role: null, database: server.database, name: STATEMENT } as const;
  return `${settingSql({ ...change, before: null, during: '' }, value)};`;
}

function prefixPart(facts: GuardFacts): Part {
  const { log } = facts;
  const known = changeOf(facts, PREFIX);
  const ours = known !== undefined && log.autoPrefix === known.since;
  // A reload is taken up a moment later: what was just written counts already.
  const present = ours ? known.since : log.prefix.value;
  const lacking = prefixParts.filter(({ escapes }) => !escapes.test(present));
  const wanted = `${present.replace(/\s*$/, ' ')}${lacking.map(({ text }) => text).join(',')} `;
  return {
    done: lacking.length === 0,
    missing: `${PREFIX} does not say ${lacking.map(({ text }) => text).join(', ')}`,
    blocked: prefixBlocked(facts),
    change: { kind: 'setting', role: null, name: PREFIX, before: log.autoPrefix, since: wanted },
    apart: true,
    sql: prefixSetting(wanted),
  };
}

function prefixSetting(value: string | null): string {
  return `${settingSql({ kind: 'setting', name: PREFIX, before: null, during: '' }, value)};`;
}

function prefixBlocked({ server, log }: GuardFacts): string | null {
  if (!server.superuser) return `only a superuser can set ${PREFIX}`;
  if (log.prefix.source === 'command line') return `${PREFIX} is set on the server's command line`;
  return server.alterSystemAllowed ? null : `ALTER SYSTEM is not allowed on this server: ${PREFIX} stays`;
}

function changeOf({ changes }: GuardFacts, name: string): RecordedChange | undefined {
  return changes.find(change => change.measure === NAME && change.name === name);
}

function revertLogging(facts: GuardFacts): MeasureWork {
  const { log, server } = facts;
  const statement = changeOf(facts, STATEMENT);
  const prefix = changeOf(facts, PREFIX);
  const own = log.database[STATEMENT] ?? null;
  const undoStatement = statement !== undefined && own === statement.since;
  const undoPrefix = prefix !== undefined && log.autoPrefix === prefix.since;
  if ((undoStatement || undoPrefix) && !server.superuser)
    return { ...noWork, problems: ['only a superuser can put back how statements are logged'] };
  const left = [
    ...(statement !== undefined && !undoStatement && own !== statement.before ? [STATEMENT] : []),
    ...(prefix !== undefined && !undoPrefix && log.autoPrefix !== prefix.before ? [PREFIX] : []),
  ];
  return {
    ...noWork,
    statements: undoStatement ? [databaseSetting(facts, statement.before)] : [],
    apart: undoPrefix ? [prefixStatement(prefixSetting(prefix.before)), RELOAD] : [],
    afterwards: forgetMeasureSql(facts, NAME),
    problems: left.map(name => `${name} was changed by somebody since, and stays as it is`),
  };
}
