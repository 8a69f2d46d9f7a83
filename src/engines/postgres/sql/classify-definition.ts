import { formatTable } from './row-changes.ts';
import {
  isOptionOn,
  isTree,
  namesOf,
  optionOf,
  type TableName,
  type Tree,
  tableOf,
  textOf,
  treesOf,
  typed,
} from './sql-tree.ts';
import { classOf, type StatementClass } from './statement-class.ts';

/** How statements that change objects are classified, by the parser's name of them. @source PostgreSQL, src/include/nodes/parsenodes.h */
export const definitions: Readonly<Record<string, (node: Tree) => StatementClass>> = {
  DropStmt: dropStatement,
  DropdbStmt: node => outsideDrop('DROP DATABASE', node['dbname']),
  DropTableSpaceStmt: node => outsideDrop('DROP TABLESPACE', node['tablespacename']),
  DropSubscriptionStmt: node => outsideDrop('DROP SUBSCRIPTION', node['subname']),
  DropRoleStmt: node => destructive('DROP ROLE', roleNames(node['roles'])),
  DropOwnedStmt: node => destructive('DROP OWNED', roleNames(node['roles'])),
  DropUserMappingStmt: () => destructive('DROP USER MAPPING', []),
  AlterTableStmt: alterTable,
  AlterTableMoveAllStmt: () => classOf('definition', 'ALTER ALL IN TABLESPACE'),
  AlterSystemStmt: node => {
    const setting = isTree(node['setstmt']) ? textOf(node['setstmt']['name']) : null;
    const name = setting ?? 'all settings';
    return classOf('definition', 'ALTER SYSTEM', {
      outside: true,
      dangers: [`ALTER SYSTEM changes the configuration of the whole server: ${name}`],
      objects: [{ schema: null, name }],
    });
  },
  AlterDatabaseStmt: node => {
    const outside = optionOf(node['options'], 'tablespace').given;
    return classOf('definition', 'ALTER DATABASE', {
      outside,
      ...(outside
        ? { dangers: ['the database moves to another tablespace; nobody can connect meanwhile'] }
        : {}),
    });
  },
  CreatedbStmt: () => classOf('definition', 'CREATE DATABASE', { outside: true }),
  CreateTableSpaceStmt: () => classOf('definition', 'CREATE TABLESPACE', { outside: true }),
  CreateSubscriptionStmt: node =>
    classOf('definition', 'CREATE SUBSCRIPTION', {
      outside: !/^(off|false)$/i.test(optionOf(node['options'], 'create_slot').value ?? 'on'),
    }),
  AlterSubscriptionStmt: () => classOf('definition', 'ALTER SUBSCRIPTION', { outside: true }),
  IndexStmt: node =>
    node['concurrent'] === true
      ? classOf('definition', 'CREATE INDEX CONCURRENTLY', { outside: true })
      : classOf('definition', 'CREATE INDEX', {
          remarks: [
            'writes to the table wait until the index is built; CREATE INDEX CONCURRENTLY lets them go on',
          ],
        }),
  RuleStmt: () => {
    const danger = 'a rule changes what later statements on its table do, without a word';
    return classOf('definition', 'CREATE RULE', { dangers: [danger] });
  },
  CreateEventTrigStmt: () => classOf('definition', 'CREATE EVENT TRIGGER'),
  AlterEventTrigStmt: node => {
    const off = node['tgenabled'] === 'D';
    const dangers = off ? ['an event trigger is switched off: what it guards is no longer guarded'] : [];
    return classOf('definition', 'ALTER EVENT TRIGGER', { dangers });
  },
  GrantStmt: node => classOf('definition', node['is_grant'] === true ? 'GRANT' : 'REVOKE'),
  GrantRoleStmt: node => classOf('definition', node['is_grant'] === true ? 'GRANT' : 'REVOKE'),
  CreateTableAsStmt: () => classOf('definition', 'CREATE TABLE AS'),
  RefreshMatViewStmt: () => classOf('definition', 'REFRESH MATERIALIZED VIEW'),
  CommentStmt: () => classOf('definition', 'COMMENT'),
  RenameStmt: () => classOf('definition', 'ALTER … RENAME'),
};

const ordinary: Readonly<Record<string, string>> = {
  CreateStmt: 'CREATE TABLE',
  CreateForeignTableStmt: 'CREATE FOREIGN TABLE',
  CreateSchemaStmt: 'CREATE SCHEMA',
  CreateSeqStmt: 'CREATE SEQUENCE',
  AlterSeqStmt: 'ALTER SEQUENCE',
  ViewStmt: 'CREATE VIEW',
  CreateFunctionStmt: 'CREATE FUNCTION',
  AlterFunctionStmt: 'ALTER FUNCTION',
  CreateTrigStmt: 'CREATE TRIGGER',
  CreateExtensionStmt: 'CREATE EXTENSION',
  AlterExtensionStmt: 'ALTER EXTENSION',
  AlterExtensionContentsStmt: 'ALTER EXTENSION',
  CreateDomainStmt: 'CREATE DOMAIN',
  AlterDomainStmt: 'ALTER DOMAIN',
  CreateEnumStmt: 'CREATE TYPE',
  CreateRangeStmt: 'CREATE TYPE',
  CompositeTypeStmt: 'CREATE TYPE',
  AlterEnumStmt: 'ALTER TYPE',
  AlterTypeStmt: 'ALTER TYPE',
  DefineStmt: 'CREATE',
  CreateCastStmt: 'CREATE CAST',
  CreateConversionStmt: 'CREATE CONVERSION',
  CreateTransformStmt: 'CREATE TRANSFORM',
  CreatePLangStmt: 'CREATE LANGUAGE',
  CreateAmStmt: 'CREATE ACCESS METHOD',
  CreateOpClassStmt: 'CREATE OPERATOR CLASS',
  CreateOpFamilyStmt: 'CREATE OPERATOR FAMILY',
  AlterOpFamilyStmt: 'ALTER OPERATOR FAMILY',
  AlterOperatorStmt: 'ALTER OPERATOR',
  CreateStatsStmt: 'CREATE STATISTICS',
  AlterStatsStmt: 'ALTER STATISTICS',
  CreatePolicyStmt: 'CREATE POLICY',
  AlterPolicyStmt: 'ALTER POLICY',
  CreatePublicationStmt: 'CREATE PUBLICATION',
  AlterPublicationStmt: 'ALTER PUBLICATION',
  CreateRoleStmt: 'CREATE ROLE',
  AlterRoleStmt: 'ALTER ROLE',
  AlterRoleSetStmt: 'ALTER ROLE … SET',
  AlterDatabaseSetStmt: 'ALTER DATABASE … SET',
  AlterDatabaseRefreshCollStmt: 'ALTER DATABASE',
  AlterCollationStmt: 'ALTER COLLATION',
  AlterDefaultPrivilegesStmt: 'ALTER DEFAULT PRIVILEGES',
  AlterObjectDependsStmt: 'ALTER … DEPENDS',
  AlterObjectSchemaStmt: 'ALTER … SET SCHEMA',
  AlterOwnerStmt: 'ALTER … OWNER',
  AlterTSConfigurationStmt: 'ALTER TEXT SEARCH',
  AlterTSDictionaryStmt: 'ALTER TEXT SEARCH',
  AlterTableSpaceOptionsStmt: 'ALTER TABLESPACE',
  CreateFdwStmt: 'CREATE FOREIGN DATA WRAPPER',
  AlterFdwStmt: 'ALTER FOREIGN DATA WRAPPER',
  CreateForeignServerStmt: 'CREATE SERVER',
  AlterForeignServerStmt: 'ALTER SERVER',
  CreateUserMappingStmt: 'CREATE USER MAPPING',
  AlterUserMappingStmt: 'ALTER USER MAPPING',
  ImportForeignSchemaStmt: 'IMPORT FOREIGN SCHEMA',
  ReassignOwnedStmt: 'REASSIGN OWNED',
  SecLabelStmt: 'SECURITY LABEL',
  ReplicaIdentityStmt: 'ALTER TABLE',
};

/** A statement that changes objects; null for any other. */
export function classifyDefinition(type: string, node: Tree): StatementClass | null {
  const own = definitions[type];
  if (own !== undefined) return own(node);
  const command = ordinary[type];
  return command === undefined ? null : classOf('definition', command);
}

function dropStatement(node: Tree): StatementClass {
  const kind = String(node['removeType'] ?? '')
    .replace(/^OBJECT_/, '')
    .replaceAll('_', ' ');
  const command = `DROP ${kind.replace('MATVIEW', 'MATERIALIZED VIEW')}`;
  const objects = treesOf(node['objects']).flatMap(each => {
    const name = objectName(each);
    return name === null ? [] : [name];
  });
  const found = destructive(command, objects);
  return node['concurrent'] === true
    ? { ...found, command: `${command} CONCURRENTLY`, outside: true }
    : found;
}

/** The name an object is dropped by: a list of its parts, a string, or one of a function. */
function objectName(value: unknown): TableName | null {
  const found = typed(value);
  if (found === null) return null;
  if (found.type === 'String') return { schema: null, name: textOf(found.node['sval']) ?? '' };
  const parts = namesOf(found.node['items'] ?? found.node['objname'] ?? found.node['names']);
  const name = parts.at(-1);
  return name === undefined ? null : { schema: parts.at(-2) ?? null, name };
}

function destructive(command: string, objects: readonly TableName[]): StatementClass {
  const names = objects.map(formatTable).join(', ');
  return classOf('definition', command, { dangers: [`${command} ${names}`.trim()], objects });
}

function outsideDrop(command: string, name: unknown): StatementClass {
  const found = destructive(command, [{ schema: null, name: textOf(name) ?? '' }]);
  return { ...found, outside: true };
}

function roleNames(roles: unknown): readonly TableName[] {
  return treesOf(roles).flatMap(each => {
    const found = typed(each);
    const role = found?.type === 'RoleSpec' ? textOf(found.node['rolename']) : null;
    return role === null ? [] : [{ schema: null, name: role }];
  });
}

/** What an ALTER TABLE takes away, by the parser's name of the action. */
const alterDangers: Readonly<Record<string, string>> = {
  AT_DropColumn: 'drops a column with all that is in it',
  AT_AlterColumnType: 'rewrites a column as another type; what does not fit into it is lost',
  AT_DropConstraint: 'drops a constraint',
  AT_DropExpression: 'drops the expression of a generated column',
  AT_DisableTrig: 'switches a trigger off',
  AT_DisableTrigAll: 'switches all triggers off, foreign keys included',
  AT_DisableTrigUser: 'switches triggers off',
  AT_DisableRule: 'switches a rule off',
  AT_DisableRowSecurity: 'switches row security off',
  AT_NoForceRowSecurity: "switches row security off for the table's owner",
  AT_SetUnLogged: 'makes the table unlogged: a crash or a restore empties it',
  AT_DetachPartition: 'detaches a partition: its rows are no longer in the table',
  AT_DropInherit: 'takes the table out of its parent: its rows are no longer there',
};

function alterTable(node: Tree): StatementClass {
  const table = tableOf(node['relation']);
  const commands = treesOf(node['cmds']).flatMap(each => {
    const found = typed(each);
    return found === null ? [] : [found.node];
  });
  const named = table === null ? '' : formatTable(table);
  const command = node['objtype'] === 'OBJECT_TABLE' ? 'ALTER TABLE' : 'ALTER';
  const dangers = commands.flatMap(({ subtype, name }) => {
    const danger = alterDangers[String(subtype)];
    const of = typeof name === 'string' && subtype !== 'AT_DetachPartition' ? ` (${name})` : '';
    return danger === undefined ? [] : [`${command} ${named} ${danger}${of}`];
  });
  const outside = commands.some(({ subtype, def }) => {
    const partition = typed(def)?.node;
    return subtype === 'AT_DetachPartition' && partition?.['concurrent'] === true;
  });
  return classOf('definition', command, {
    dangers,
    outside,
    objects: dangers.length === 0 || table === null ? [] : [table],
  });
}

/** VACUUM, ANALYZE, CLUSTER, REINDEX, CHECKPOINT: the data stay as they are. Null for any other. */
export function classifyMaintenance(type: string, node: Tree): StatementClass | null {
  const waits = (command: string, outside: boolean): StatementClass =>
    classOf('maintenance', command, {
      outside,
      remarks: ['whoever uses the table waits until it is done'],
    });
  switch (type) {
    case 'VacuumStmt':
      if (node['is_vacuumcmd'] !== true) return classOf('maintenance', 'ANALYZE');
      if (isOptionOn(node['options'], 'full')) return waits('VACUUM FULL', true);
      return classOf('maintenance', 'VACUUM', { outside: true });
    case 'ClusterStmt':
      return waits('CLUSTER', true);
    case 'ReindexStmt':
      if (isOptionOn(node['params'], 'concurrently'))
        return classOf('maintenance', 'REINDEX CONCURRENTLY', { outside: true });
      return waits('REINDEX', true);
    case 'CheckPointStmt':
      return classOf('maintenance', 'CHECKPOINT');
    default:
      return null;
  }
}
