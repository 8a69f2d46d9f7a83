import { isTree, nodesIn, type Tree, textOf, treesOf, typed } from './sql-tree.ts';

/** What the condition of a DELETE or UPDATE says: nothing, something that holds for every row or none, or which rows. */
export type Condition = 'none' | 'useless' | 'useful';

/** The table whose rows are chosen. */
export interface ChosenRows {
  /** What the statement calls it. */
  readonly alias: string;
  /** Other tables take part, so a column without a table may be another's. */
  readonly joined: boolean;
}

/** Judges a WHERE, or the ON of a MERGE. What cannot be told from the text alone counts as useless: it is asked about. */
export function judgeCondition(where: unknown, rows: ChosenRows): Condition {
  if (where === undefined || where === null) return 'none';
  return chooses(where, rows) ? 'useful' : 'useless';
}

function chooses(value: unknown, rows: ChosenRows): boolean {
  const found = typed(value);
  if (found === null) return false;
  const { type, node } = found;
  if (type === 'ColumnRef') return isOwnColumn(node, rows);
  if (type === 'CurrentOfExpr') return true;
  if (type === 'BoolExpr') {
    const args = treesOf(node['args']);
    // One side of an OR that holds for every row makes all of it hold for every row.
    return node['boolop'] === 'OR_EXPR'
      ? args.every(each => chooses(each, rows))
      : args.some(each => chooses(each, rows));
  }
  if (type === 'SubLink') return chooses(node['testexpr'], rows) || isCorrelated(node['subselect'], rows);
  if (type === 'A_Expr' && isSame(node['lexpr'], node['rexpr'])) return false;
  return Object.values(node).some(each => choosesIn(each, rows));
}

function choosesIn(value: unknown, rows: ChosenRows): boolean {
  if (Array.isArray(value)) return value.some(each => choosesIn(each, rows));
  if (typed(value) !== null) return chooses(value, rows);
  return isTree(value) && Object.values(value).some(each => choosesIn(each, rows));
}

function isOwnColumn(column: Tree, rows: ChosenRows): boolean {
  const fields = treesOf(column['fields']);
  if (fields.length === 1) return !rows.joined;
  return qualifierOf(fields) === rows.alias;
}

/** `t` of `t.c` and of `s.t.c`. */
function qualifierOf(fields: readonly unknown[]): string | null {
  const name = typed(fields.at(-2));
  return name?.type === 'String' ? textOf(name.node['sval']) : null;
}

/** In a subquery, a column without a table may be the subquery's own: only one with our table's name is ours. */
function isCorrelated(subselect: unknown, rows: ChosenRows): boolean {
  for (const { type, node } of nodesIn(subselect)) {
    const fields = treesOf(node['fields']);
    if (type === 'ColumnRef' && fields.length > 1 && isOwnColumn(node, rows)) return true;
  }
  return false;
}

/** Whether both sides of a comparison read the same: `id = id`. */
function isSame(left: unknown, right: unknown): boolean {
  return left !== undefined && withoutPlaces(left) === withoutPlaces(right);
}

function withoutPlaces(value: unknown): string {
  return JSON.stringify(value, (key, each) => (key === 'location' ? undefined : each)) ?? '';
}
