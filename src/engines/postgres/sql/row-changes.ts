import { type Condition, judgeCondition } from './row-conditions.ts';
import { isTree, nodesIn, type TableName, type Tree, tableOf, textOf, treesOf, typed } from './sql-tree.ts';

export type RowOperation = 'insert' | 'update' | 'delete' | 'merge' | 'truncate' | 'copy';

/** One part of a statement that writes rows of a table. */
export interface RowChange {
  readonly operation: RowOperation;
  readonly table: TableName;
  /** What the statement calls the table; its name unless it gives another. */
  readonly alias: string;
  /** Null where the operation has no condition. */
  readonly condition: Condition | null;
  /** Why it is asked about; null where only the number of rows decides. */
  readonly danger: string | null;
}

/** All changes of rows that a tree holds, wherever they stand: also in a WITH of a SELECT. */
export function rowChangesIn(tree: unknown): readonly RowChange[] {
  const changes: RowChange[] = [];
  for (const { type, node } of nodesIn(tree)) {
    const change = changeOf(type, node);
    if (change !== null) changes.push(change);
  }
  return changes;
}

function changeOf(type: string, node: Tree): RowChange | null {
  const table = tableOf(node['relation']);
  if (table === null) return null;
  if (type === 'InsertStmt') return plain('insert', node, table);
  if (type === 'DeleteStmt') return chosen('delete', node, table);
  if (type === 'UpdateStmt') return chosen('update', node, table);
  return type === 'MergeStmt' ? merged(node, table) : null;
}

function plain(operation: RowOperation, node: Tree, table: TableName): RowChange {
  return { operation, table, alias: aliasOf(node, table), condition: null, danger: null };
}

function chosen(operation: 'delete' | 'update', node: Tree, table: TableName): RowChange {
  const joined = treesOf(node[operation === 'delete' ? 'usingClause' : 'fromClause']).length > 0;
  const alias = aliasOf(node, table);
  const condition = judgeCondition(node['whereClause'], { alias, joined });
  const word = operation.toUpperCase();
  const danger = {
    none: `${word} without WHERE: it means every row of ${formatTable(table)}`,
    useless: `the WHERE of this ${word} does not say which rows of ${formatTable(table)}`,
    useful: null,
  }[condition];
  return { operation, table, alias, condition, danger };
}

function merged(node: Tree, table: TableName): RowChange {
  const alias = aliasOf(node, table);
  const condition = judgeCondition(node['joinCondition'], { alias, joined: true });
  const clauses = treesOf(node['mergeWhenClauses']).flatMap(each => {
    const clause = typed(each);
    return clause === null ? [] : [clause.node];
  });
  const destroys = clauses.filter(({ commandType }) => /UPDATE|DELETE/.test(String(commandType)));
  const others = destroys.some(({ matchKind }) => matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_SOURCE');
  let danger: string | null = null;
  if (others) danger = `MERGE changes every row of ${formatTable(table)} that its source does not have`;
  else if (destroys.length > 0 && condition !== 'useful')
    danger = `the ON of this MERGE does not say which rows of ${formatTable(table)}`;
  return { operation: 'merge', table, alias, condition, danger };
}

function aliasOf(node: Tree, table: TableName): string {
  const alias = isTree(node['relation']) ? node['relation']['alias'] : undefined;
  const name = isTree(alias) ? textOf(alias['aliasname']) : null;
  return name ?? table.name;
}

/** A table's name for people. */
export function formatTable({ schema, name }: TableName): string {
  return schema === null ? name : `${schema}.${name}`;
}
