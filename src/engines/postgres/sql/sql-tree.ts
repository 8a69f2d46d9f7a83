/** A node of PostgreSQL's parse tree as libpg_query writes it in JSON: its fields, or `{ NodeType: fields }` where any may stand. */
export type Tree = Readonly<Record<string, unknown>>;

/** A node with its type. */
export interface TypedNode {
  readonly type: string;
  readonly node: Tree;
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The node and its type behind `{ NodeType: fields }`; null for anything else. */
export function typed(value: unknown): TypedNode | null {
  if (!isTree(value)) return null;
  const [entry, ...more] = Object.entries(value);
  if (entry === undefined || more.length > 0) return null;
  const [type, node] = entry;
  return /^[A-Z]/.test(type) && isTree(node) ? { type, node } : null;
}

export function treesOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** Every node below, the value itself included, parents first. */
export function* nodesIn(value: unknown): Generator<TypedNode> {
  if (Array.isArray(value)) {
    for (const each of value) yield* nodesIn(each);
    return;
  }
  if (!isTree(value)) return;
  const own = typed(value);
  if (own !== null) {
    yield own;
    yield* nodesIn(own.node);
    return;
  }
  for (const each of Object.values(value)) yield* nodesIn(each);
}

/** The texts of a list of String nodes, such as the parts of a name. */
export function namesOf(list: unknown): readonly string[] {
  return treesOf(list).flatMap(each => {
    const found = typed(each);
    const name = found?.type === 'String' ? textOf(found.node['sval']) : null;
    return name === null ? [] : [name];
  });
}

/** A table as a statement names it; no schema where it left that to the search path. */
export interface TableName {
  readonly schema: string | null;
  readonly name: string;
}

/** The table of a RangeVar's fields. */
export function tableOf(value: unknown): TableName | null {
  if (!isTree(value)) return null;
  const range = typed(value)?.type === 'RangeVar' ? typed(value)!.node : value;
  const name = textOf(range['relname']);
  return name === null ? null : { schema: textOf(range['schemaname']), name };
}

/** The argument of an option `(name arg)`, and whether it is there at all. */
export function optionOf(
  list: unknown,
  name: string,
): { readonly given: boolean; readonly value: string | null } {
  for (const each of treesOf(list)) {
    const found = typed(each);
    if (found?.type !== 'DefElem' || found.node['defname'] !== name) continue;
    return { given: true, value: constantOf(found.node['arg']) };
  }
  return { given: false, value: null };
}

/** Whether an option is switched on: given without a value, or with one that means true. */
export function isOptionOn(list: unknown, name: string): boolean {
  const { given, value } = optionOf(list, name);
  return given && (value === null || !/^(off|false|0|no)$/i.test(value));
}

/** The text of a constant, of whatever type; null for what is computed, and for NULL. */
export function constantOf(value: unknown): string | null {
  const found = typed(value);
  if (found === null) return null;
  const { type, node } = found;
  if (type === 'TypeCast') return constantOf(node['arg']);
  if (type === 'String') return textOf(node['sval']);
  if (type === 'Integer') return String(node['ival'] ?? 0);
  if (type === 'Float') return textOf(node['fval']);
  if (type === 'Boolean') return String(node['boolval'] ?? false);
  if (type !== 'A_Const' || node['isnull'] === true) return null;
  for (const [field, key] of [
    ['sval', 'sval'],
    ['fval', 'fval'],
    ['ival', 'ival'],
    ['boolval', 'boolval'],
  ] as const) {
    const held = node[field];
    // What is zero, false or empty is left out of the JSON.
    if (isTree(held)) return String(held[key] ?? { sval: '', fval: '0', ival: 0, boolval: false }[field]);
  }
  return null;
}
