import { classifyDefinition, classifyMaintenance } from './classify-definition.ts';
import {
  classifySetting,
  classifyTransaction,
  preparedQuery,
  settingDanger,
  settingRefusal,
} from './classify-session.ts';
import { findFunctions } from './function-calls.ts';
import { formatTable, type RowChange, rowChangesIn } from './row-changes.ts';
import type { ParsedStatement } from './sql-parser.ts';
import {
  isOptionOn,
  nodesIn,
  type TableName,
  type Tree,
  tableOf,
  textOf,
  treesOf,
  typed,
} from './sql-tree.ts';
import { classOf, type StatementClass } from './statement-class.ts';

/** What prepared statements of this session do, by name: what EXECUTE runs. */
export type PreparedClasses = ReadonlyMap<string, StatementClass>;

/** Says what a statement does, from its parse tree alone. What is not known is dangerous. */
export function classifyStatement(
  { type, tree }: Pick<ParsedStatement, 'type' | 'tree'>,
  prepared: PreparedClasses = new Map(),
): StatementClass {
  return withFunctions(withSystemTables(byType(type, tree, prepared)), tree);
}

function byType(type: string, node: Tree, prepared: PreparedClasses): StatementClass {
  return (
    classifyRows(type, node) ??
    classifySetting(type, node) ??
    classifyPrepared(type, node, prepared) ??
    classifyCode(type, node) ??
    classifyDefinition(type, node) ??
    classifyMaintenance(type, node) ??
    classOf('unknown', type.replace(/Stmt$/, ''), {
      dangers: ['this console does not know what this kind of statement does'],
    })
  );
}

/** Queries and what changes rows. */
function classifyRows(type: string, node: Tree): StatementClass | null {
  switch (type) {
    case 'SelectStmt':
      return classifySelect(node);
    case 'InsertStmt':
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      return writes(type.replace('Stmt', '').toUpperCase(), rowChangesIn({ [type]: node }));
    case 'TruncateStmt':
      return classifyTruncate(node);
    case 'CopyStmt':
      return classifyCopy(node);
    case 'ExplainStmt':
      return classifyExplain(node);
    case 'TransactionStmt':
      return classifyTransaction(node);
    case 'LockStmt':
      return classOf('lock', 'LOCK');
    case 'FetchStmt':
      return classOf('lock', node['ismove'] === true ? 'MOVE' : 'FETCH');
    case 'ClosePortalStmt':
      return classOf('lock', 'CLOSE');
    case 'ListenStmt':
    case 'UnlistenStmt':
      return classOf('lock', type.replace('Stmt', '').toUpperCase());
    case 'NotifyStmt':
      return classOf('lock', 'NOTIFY', { remarks: ['a dry run or a rollback sends nothing'] });
    case 'DeclareCursorStmt':
      return { ...classifyInner(node['query']), command: 'DECLARE CURSOR', kind: 'lock' };
    default:
      return null;
  }
}

function classifySelect(node: Tree): StatementClass {
  const changes = rowChangesIn(node);
  if (changes.length > 0) return writes('SELECT', changes);
  if ('intoClause' in node) return classOf('definition', 'SELECT INTO');
  const locks = [...nodesIn(node)].some(({ type }) => type === 'LockingClause');
  return classOf(locks ? 'lock' : 'read', 'SELECT');
}

function writes(command: string, changes: readonly RowChange[]): StatementClass {
  const dangers = changes.flatMap(({ danger }) => (danger === null ? [] : [danger]));
  const tables = changes.filter(({ danger }) => danger !== null).map(({ table }) => table);
  return classOf('write', command, { changes, dangers, objects: tables });
}

function classifyTruncate(node: Tree): StatementClass {
  const tables = treesOf(node['relations']).flatMap(each => {
    const table = tableOf(each);
    return table === null ? [] : [table];
  });
  const cascade = node['behavior'] === 'DROP_CASCADE' ? ', and every table with a foreign key to it' : '';
  const dangers = [`TRUNCATE empties ${tables.map(formatTable).join(', ')}${cascade}`];
  const changes = tables.map(
    (table): RowChange => ({
      operation: 'truncate',
      table,
      alias: table.name,
      condition: null,
      danger: dangers[0] ?? null,
    }),
  );
  return classOf('write', 'TRUNCATE', { changes, dangers, objects: tables });
}

function classifyCopy(node: Tree): StatementClass {
  const table = tableOf(node['relation']);
  const file = textOf(node['filename']);
  const program = node['is_program'] === true;
  const name = table === null ? [] : [table];
  if (file === null) {
    return classOf('unknown', 'COPY', {
      refusal: `COPY ${node['is_from'] === true ? 'FROM STDIN' : 'TO STDOUT'} needs a program that speaks it: use psql's \\copy`,
    });
  }
  if (node['is_from'] !== true) {
    const does = program ? `runs the program '${file}'` : `writes the file '${file}', whatever is in it`;
    const lasting = `COPY TO ${does} on the server`;
    const inner = node['query'] === undefined ? null : classifyInner(node['query']);
    const dangers = [lasting, ...(inner?.dangers ?? [])];
    return classOf('code', 'COPY TO', {
      lasting: [lasting],
      dangers,
      changes: inner?.changes ?? [],
      objects: name,
    });
  }
  const changes = name.map(
    (each): RowChange => ({
      operation: 'copy',
      table: each,
      alias: each.name,
      condition: null,
      danger: null,
    }),
  );
  const lasting = program ? [`COPY FROM runs the program '${file}' on the server`] : [];
  return classOf('write', 'COPY FROM', {
    changes,
    lasting,
    dangers: lasting,
    objects: lasting.length === 0 ? [] : name,
    remarks: ['how many rows it adds is known only when it has run'],
  });
}

function classifyExplain(node: Tree): StatementClass {
  const command = 'EXPLAIN';
  if (!isOptionOn(node['options'], 'analyze')) return classOf('read', command);
  const inner = classifyInner(node['query']);
  const runs =
    inner.kind === 'read' ? [] : ['EXPLAIN ANALYZE runs the statement: it really changes what it says'];
  return { ...inner, command: 'EXPLAIN ANALYZE', explains: true, remarks: [...runs, ...inner.remarks] };
}

function classifyInner(query: unknown): StatementClass {
  const inner = typed(query);
  if (inner === null)
    return classOf('unknown', 'statement', { dangers: ['it holds nothing that is understood'] });
  return classifyStatement({ type: inner.type, tree: inner.node });
}

/** PREPARE does nothing yet; EXECUTE does what was prepared. */
function classifyPrepared(type: string, node: Tree, prepared: PreparedClasses): StatementClass | null {
  if (type === 'PrepareStmt') return classOf('setting', 'PREPARE', { prepared: preparedQuery(node).name });
  if (type === 'DeallocateStmt') return classOf('setting', 'DEALLOCATE', { prepared: textOf(node['name']) });
  if (type !== 'ExecuteStmt') return null;
  const name = textOf(node['name']) ?? '';
  const known = prepared.get(name);
  if (known !== undefined) return { ...known, command: 'EXECUTE', prepared: name };
  return classOf('code', 'EXECUTE', {
    prepared: name,
    dangers: [`what the prepared statement '${name}' does is not known here`],
    objects: [{ schema: null, name }],
  });
}

/** What the query of a PREPARE does. */
export function classifyPreparedQuery(tree: Tree): StatementClass {
  return classifyInner(tree['query']);
}

const opaque =
  'what it does is known only when it has run; what it does outside of its transaction no rollback takes back';

function classifyCode(type: string, node: Tree): StatementClass | null {
  if (type === 'DoStmt') return classOf('code', 'DO', { remarks: [opaque] });
  if (type === 'CallStmt') return classOf('code', 'CALL', { remarks: [opaque] });
  if (type !== 'LoadStmt') return null;
  const lasting = `LOAD runs code of '${textOf(node['filename']) ?? ''}' inside the server`;
  return classOf('code', 'LOAD', { lasting: [lasting], dangers: [lasting] });
}

/** The server's own catalogs: a row more or less there, and nothing works. */
function withSystemTables(found: StatementClass): StatementClass {
  const system = found.changes.filter(({ table }) => isSystem(table));
  if (system.length === 0) return found;
  const dangers = system.map(
    ({ table }) => `${formatTable(table)} belongs to PostgreSQL itself: changing it can destroy the database`,
  );
  return {
    ...found,
    dangers: [...found.dangers, ...dangers],
    objects: [...found.objects, ...system.map(({ table }) => table)],
  };
}

function isSystem({ schema, name }: TableName): boolean {
  return (
    schema === 'pg_catalog' || schema === 'information_schema' || (schema === null && name.startsWith('pg_'))
  );
}

function withFunctions(found: StatementClass, tree: Tree): StatementClass {
  // The body of a function or a prepared statement does not run yet.
  if (found.kind === 'definition' && found.command === 'CREATE FUNCTION') return found;
  if (found.command === 'PREPARE') return found;
  const { lasting, settings } = findFunctions(tree);
  if (lasting.length === 0 && settings.length === 0) return found;
  const effects = lasting.map(name => `${name}() acts at once, and no rollback takes it back`);
  const dangers = settings.flatMap(name => settingDanger(name) ?? []);
  return {
    ...found,
    kind: found.kind === 'read' ? 'code' : found.kind,
    lasting: [...found.lasting, ...effects],
    dangers: [...found.dangers, ...effects, ...dangers],
    settings: [...found.settings, ...settings],
    refusal: found.refusal ?? settings.map(settingRefusal).find(each => each !== null) ?? null,
    unlocks: found.unlocks || settings.some(name => name === null || name.endsWith('transaction_read_only')),
    objects: found.objects.length > 0 ? found.objects : lasting.map(name => ({ schema: null, name })),
  };
}
