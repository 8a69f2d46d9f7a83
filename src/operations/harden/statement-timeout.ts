import type { GuardFacts, LoginRole, RecordedChange } from '../../engines/postgres/guard-facts.ts';
import { settingSql } from '../../engines/postgres/write-controls.ts';
import {
  forgetMeasureSql,
  type HardenSettings,
  type Measure,
  noWork,
  recordedOption,
  recordMeasureSql,
} from './measure.ts';

const NAME = 'statement-timeout';

interface Limit {
  readonly setting: string;
  readonly chosen: 'statementTimeoutSeconds' | 'idleTimeoutSeconds' | 'lockTimeoutSeconds';
  readonly defaultSeconds: number;
}

const limits: readonly Limit[] = [
  { setting: 'statement_timeout', chosen: 'statementTimeoutSeconds', defaultSeconds: 900 },
  { setting: 'idle_in_transaction_session_timeout', chosen: 'idleTimeoutSeconds', defaultSeconds: 600 },
  { setting: 'lock_timeout', chosen: 'lockTimeoutSeconds', defaultSeconds: 60 },
];

export const statementTimeout: Measure = {
  name: NAME,
  title: 'Time limits for ordinary roles',
  prevents:
    'A statement that runs for hours, a transaction that is forgotten open with its locks, a queue behind a lock. Limits are of each role that logs in, in this database.',
  costs: 'Nothing. What takes longer on purpose has to say so: SET statement_timeout = 0.',
  limits: [
    'Superusers, replication, and roles with a limit of their own are left as they are.',
    'Sessions that are open already go on without. Roles made later have it once this is applied again.',
  ],
  choices: (facts, settings) =>
    limits.map(limit => `${limit.setting} ${wantedValue(facts, limit, settings)}`).join(', '),
  read(facts) {
    const entries = entriesOf(facts);
    const open = entries.filter(({ state }) => state === 'none');
    const blocked = open.filter(({ role }) => !role.alterable);
    const byRole = Map.groupBy(open, ({ role }) => role.name);
    const others = entries.filter(({ state }) => state === 'other');
    return {
      present: entries.filter(({ state }) => state === 'ours').length,
      missing: [...byRole].map(
        ([role, of]) =>
          `role ${role} has no ${of.map(({ limit }) => limit.setting).join(', ')}${of[0]?.role.alterable === false ? ' (this user may not change that)' : ''}`,
      ),
      blocked:
        blocked.length > 0 && blocked.length === open.length
          ? 'this user may not change the settings of these roles'
          : null,
      notes: [...Map.groupBy(others, ({ role }) => role.name)].map(
        ([role, of]) => `role ${role} keeps its own ${of.map(({ limit }) => limit.setting).join(', ')}`,
      ),
    };
  },
  apply(facts, settings) {
    const values = Object.fromEntries(
      limits.map(limit => [limit.setting, wantedValue(facts, limit, settings)]),
    );
    const todo = entriesOf(facts).filter(
      ({ role, limit, state, change }) =>
        role.alterable && (state === 'none' || (state === 'ours' && change?.since !== values[limit.setting])),
    );
    const changes = todo.map(({ role, limit }) => ({
      kind: 'role-setting' as const,
      role: role.name,
      name: limit.setting,
      before: null,
      since: values[limit.setting] ?? '',
    }));
    return {
      ...noWork,
      statements: [
        ...recordMeasureSql(facts, NAME, { options: values, changes }),
        ...changes.map(({ role, name, since }) => set(facts, { role, setting: name, value: since })),
      ],
    };
  },
  revert(facts) {
    const ours = entriesOf(facts).filter(({ state }) => state === 'ours');
    const stuck = ours.filter(({ role }) => !role.alterable);
    if (stuck.length > 0) {
      const names = [...new Set(stuck.map(({ role }) => role.name))].join(', ');
      return { ...noWork, problems: [`this user may not change the settings of ${names}`] };
    }
    return {
      ...noWork,
      statements: [
        ...ours.map(({ role, limit, change }) =>
          set(facts, { role: role.name, setting: limit.setting, value: change?.before ?? null }),
        ),
        ...forgetMeasureSql(facts, NAME),
      ],
    };
  },
};

interface Entry {
  readonly role: LoginRole;
  readonly limit: Limit;
  readonly change: RecordedChange | undefined;
  /** `ours`: as it was set here. `other`: somebody's own. `none`: there is none. */
  readonly state: 'ours' | 'other' | 'none';
}

function entriesOf(facts: GuardFacts): Entry[] {
  const ordinary = facts.roles.filter(role => role.ordinary);
  return ordinary.flatMap(role =>
    limits.map(limit => {
      const here = role.here[limit.setting];
      const change = facts.changes.find(
        ({ measure, role: of, name }) => measure === NAME && of === role.name && name === limit.setting,
      );
      if (change !== undefined && here === change.since)
        return { role, limit, change, state: 'ours' as const };
      const own = here !== undefined || role.everywhere[limit.setting] !== undefined;
      return { role, limit, change, state: own ? ('other' as const) : ('none' as const) };
    }),
  );
}

function wantedValue(facts: GuardFacts, limit: Limit, settings: HardenSettings): string {
  const chosen = settings[limit.chosen];
  if (chosen !== null) return `${chosen}s`;
  const recorded = recordedOption(facts, NAME, limit.setting);
  return typeof recorded === 'string' ? recorded : `${limit.defaultSeconds}s`;
}

function set(
  { server }: GuardFacts,
  to: { readonly role: string; readonly setting: string; readonly value: string | null },
): string {
  const change = {
    kind: 'role-setting',
    role: to.role,
    database: server.database,
    name: to.setting,
  } as const;
  return `${settingSql({ ...change, before: null, during: '' }, to.value)};`;
}
