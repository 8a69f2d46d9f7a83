import type { GuardFacts } from '../../engines/postgres/guard-facts.ts';
import { forgetMeasureSql, type Measure, noWork, recordMeasureSql } from './measure.ts';

const NAME = 'read-only-role';
export const READ_ONLY_ROLE = 'aishell_read_only';

/** What lets a person read everything, and begin every transaction read-only. A group's own settings would count for nobody. */
const GRANT = `GRANT ${READ_ONLY_ROLE} TO anna; ALTER ROLE anna SET default_transaction_read_only = on;`;

export const readOnlyRole: Measure = {
  name: NAME,
  title: 'A role for those who only look',
  prevents:
    'That people look around with a role that may also destroy. The role reads all tables, writes none, and nobody logs in as it.',
  costs: 'Nothing. It counts for those who are given it.',
  limits: [
    `It has to be given, to a role that may do nothing else: ${GRANT}`,
    'It reads every table of every database of the server that its members may connect to.',
    'Members of it can turn read-only transactions off; what they may not write, they cannot even then.',
  ],
  read(facts) {
    const { group } = facts;
    const good = group.exists && group.readsAll;
    return {
      present: good ? 1 : 0,
      missing: good
        ? []
        : [
            group.exists
              ? `the role ${READ_ONLY_ROLE} is not a member of pg_read_all_data`
              : `there is no role ${READ_ONLY_ROLE}`,
          ],
      blocked: blockedReason(facts),
      notes: [
        ...(good && !isOurs(facts)
          ? ['the role was not made from this database: taking the measure back leaves it']
          : []),
        ...(group.members.length > 0 ? [`its members: ${group.members.join(', ')}`] : []),
      ],
    };
  },
  apply(facts) {
    const { group } = facts;
    if (blockedReason(facts) !== null) return noWork;
    const made = {
      kind: 'role',
      role: null,
      name: READ_ONLY_ROLE,
      before: null,
      since: 'made',
    } as const;
    return {
      ...noWork,
      statements: [
        ...(group.exists
          ? []
          : [
              `create role ${READ_ONLY_ROLE} nologin;`,
              `comment on role ${READ_ONLY_ROLE} is 'Reads everything, writes nothing. Made by: aishell security harden';`,
            ]),
        ...(group.readsAll ? [] : [`grant pg_read_all_data to ${READ_ONLY_ROLE};`]),
        ...recordMeasureSql(facts, NAME, { options: {}, changes: group.exists ? [] : [made] }),
      ],
    };
  },
  revert(facts) {
    const { group } = facts;
    if (!isOurs(facts) || !group.exists) return { ...noWork, statements: forgetMeasureSql(facts, NAME) };
    const why =
      group.members.length > 0 ? 'it has members' : group.hasRights ? 'it has rights of its own' : null;
    if (why !== null) {
      const first =
        group.members.length > 0
          ? `REVOKE ${READ_ONLY_ROLE} FROM ${group.members.join(', ')};`
          : `DROP OWNED BY ${READ_ONLY_ROLE};`;
      return {
        ...noWork,
        problems: [`the role ${READ_ONLY_ROLE} stays, as ${why}: ${first} and revert again`],
      };
    }
    return { ...noWork, statements: [`drop role ${READ_ONLY_ROLE};`, ...forgetMeasureSql(facts, NAME)] };
  },
};

function isOurs({ changes }: GuardFacts): boolean {
  return changes.some(({ measure, kind }) => measure === NAME && kind === 'role');
}

function blockedReason(facts: GuardFacts): string | null {
  const { group, server } = facts;
  if (group.exists && group.readsAll) return null;
  if (group.exists && !isOurs(facts))
    return `the role ${READ_ONLY_ROLE} is somebody else's: it was not made by this program`;
  return server.mayCreateRoles && server.mayGrantReadAll
    ? null
    : 'this user may not make roles and grant pg_read_all_data to them';
}
