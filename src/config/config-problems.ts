import { type Document, isMap, isNode, isPair, isScalar, type LineCounter, type Node } from 'yaml';
import type { z } from 'zod';
import { didYouMean } from '../base/did-you-mean.ts';
import { configJsonSchema, instanceSchema } from './schema.ts';

export interface ConfigProblem {
  /** From 1. */
  readonly line: number;
  /** E.g. `instances.production.engine`; '' for the whole file. */
  readonly path: string;
  readonly message: string;
}

interface Place {
  readonly document: Document;
  readonly lines: LineCounter;
}

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Blocks of the tutorial that belong to features of later versions. */
const laterBlocks = new Set(['continuous_backup', 'multi_region', 'backup_testing']);

/** Turns what the schema found into sentences with lines, in the order of the file. */
export function describeIssues(issues: readonly Issue[], place: Place): readonly ConfigProblem[] {
  return issues
    .flatMap(issue => describeIssue(issue, place))
    .sort((a, b) => a.line - b.line || a.path.localeCompare(b.path));
}

function describeIssue(issue: Issue, place: Place): readonly ConfigProblem[] {
  const at = (path: Path, message: string): ConfigProblem => ({
    line: lineOf(path, place),
    path: path.map(String).join('.'),
    message,
  });
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => at([...issue.path, key], describeUnknownKey(key, issue.path)));
  }
  if (issue.code === 'invalid_key') {
    const wrongKey = at(issue.path, issue.issues[0]?.message ?? issue.message);
    if (issue.path[0] !== 'instances') return [wrongKey];
    // A record's value is not looked at when its key is wrong; every mistake is to be told at once, so look at it here.
    const node = place.document.getIn(issue.path, true);
    const inside = instanceSchema.safeParse(isNode(node) ? node.toJS(place.document) : node, {
      reportInput: true,
    });
    const found = (inside.error?.issues ?? []).map(inner => ({
      ...inner,
      path: [...issue.path, ...inner.path],
    }));
    return [wrongKey, ...describeIssues(found, place)];
  }
  if (issue.code === 'invalid_union') return [at(issue.path, describeUnion(issue))];
  if (isMissing(issue)) return [at(issue.path, 'is missing')];
  if (issue.code === 'invalid_type')
    return [
      at(issue.path, `must be ${typeNames[issue.expected] ?? issue.expected}, and is ${kindOf(issue.input)}`),
    ];
  if (issue.code === 'invalid_value') {
    return [
      at(
        issue.path,
        `must be ${issue.values.map(value => `'${String(value)}'`).join(' or ')}, and is '${String(issue.input)}'`,
      ),
    ];
  }
  if (issue.code === 'too_small') return [at(issue.path, `must not be less than ${issue.minimum}`)];
  if (issue.code === 'too_big') return [at(issue.path, `must not be more than ${issue.maximum}`)];
  return [at(issue.path, issue.message)];
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  object: 'a group of keys',
  record: 'a group of keys',
};

function kindOf(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  return (
    { string: 'a text', number: 'a number', boolean: 'true or false', object: 'a group of keys' }[
      String(typeof value)
    ] ?? 'something else'
  );
}

function isMissing(issue: Issue): boolean {
  return (issue.code === 'invalid_type' || issue.code === 'invalid_value') && issue.input === undefined;
}

function describeUnion(issue: Issue & { code: 'invalid_union' }): string {
  const kinds = 'options' in issue && Array.isArray(issue.options) ? issue.options : [];
  return kinds.length === 0 ? issue.message : `must be one of ${kinds.map(String).join(', ')}`;
}

function describeUnknownKey(key: string, path: Path): string {
  if (path.length === 0 && laterBlocks.has(key))
    return 'this version of aishell does not know this block yet';
  const near = didYouMean(key, knownKeys(path));
  return near === null ? 'is not a known key' : `is not a known key, did you mean '${near}'?`;
}

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly anyOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
}

/** The keys that may stand at a path: read from the JSON Schema, so that they cannot fall behind the schema. */
function knownKeys(path: Path): readonly string[] {
  let nodes: readonly SchemaNode[] = [configJsonSchema() as SchemaNode];
  const alternatives = (node: SchemaNode): readonly SchemaNode[] => node.anyOf ?? node.oneOf ?? [node];
  nodes = nodes.flatMap(alternatives);
  for (const key of path) {
    nodes = nodes.flatMap(node => {
      const child = node.properties?.[String(key)] ?? node.additionalProperties;
      return typeof child === 'object' ? alternatives(child) : [];
    });
  }
  return [...new Set(nodes.flatMap(node => Object.keys(node.properties ?? {})))];
}

/** The line of a key, or of the nearest thing around it that is there. */
function lineOf(path: Path, { document, lines }: Place): number {
  let node: Node | null = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const key of path) {
    if (!isMap(node)) break;
    const pair = node.items.find(
      item => isPair(item) && (isScalar(item.key) ? item.key.value : item.key) === key,
    );
    if (!pair) break;
    if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
    node = isNode(pair.value) ? pair.value : null;
  }
  return lines.linePos(offset).line;
}
