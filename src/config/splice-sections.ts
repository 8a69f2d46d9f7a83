import { isDeepStrictEqual } from 'node:util';
import { Document, isMap, isNode, isScalar, type Pair, parseDocument } from 'yaml';

/**
 * The text of a changed document in which only these top-level sections are written anew: everything else stays as it
 * was, byte for byte. A document that is not laid out in lines, a key on each, is written anew as a whole.
 *
 * @param document parsed from `text`, and changed in these sections alone
 */
export function spliceSections(text: string, document: Document, sections: readonly string[]): string {
  const lineEnd = text.includes('\r\n') ? '\r\n' : '\n';
  const whole = document.toString({ lineWidth: 0 }).replaceAll('\n', lineEnd);
  const before = parseDocument(text);
  const changed = sections.filter(name => !isDeepStrictEqual(before.toJS()?.[name], document.toJS()?.[name]));
  const spliced = changed.reduce((current, name) => withSection(current, { document, name, lineEnd }), text);
  const parsed = parseDocument(spliced);
  const isSame = parsed.errors.length === 0 && isDeepStrictEqual(parsed.toJS(), parseDocument(whole).toJS());
  return isSame ? spliced : whole;
}

function withSection(
  text: string,
  {
    document,
    name,
    lineEnd,
  }: { readonly document: Document; readonly name: string; readonly lineEnd: string },
): string {
  const pair = pairOf(document, name);
  const old = pairOf(parseDocument(text), name);
  const written = pair === undefined ? '' : sectionText(pair).replaceAll('\n', lineEnd);
  const start = isNode(old?.key) ? (old.key.range?.[0] ?? null) : null;
  if (start === null) {
    const gap = text === '' || text.endsWith('\n') ? '' : lineEnd;
    return `${text}${gap}${written}`;
  }
  return `${text.slice(0, start)}${written}${text.slice(sectionEnd(text, start))}`;
}

function pairOf({ contents }: Document, name: string): Pair | undefined {
  if (!isMap(contents)) return undefined;
  // A key that was set and not parsed is the bare text.
  return contents.items.find(({ key }) => (isScalar(key) ? key.value : key) === name);
}

/** The key's own comment and empty lines before it are outside of what is replaced. */
function sectionText(pair: Pair): string {
  const section = new Document({});
  const { key, value } = pair;
  const bare = isScalar(key) ? section.createNode(key.value) : key;
  if (isMap(section.contents)) section.contents.items.push(section.createPair(bare, value));
  if (isMap(section.contents)) section.contents.flow = false;
  return section.toString({ lineWidth: 0, flowCollectionPadding: false });
}

/** Behind the last line that belongs to the key: what is indented, and what stands between such lines. */
function sectionEnd(text: string, start: number): number {
  const lines = text.slice(start).split(/(?<=\n)/);
  let last = 0;
  for (let index = 1; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    if (/^[ \t]+\S/.test(line) || /^- /.test(line)) last = index;
    else if (/^[^\s#]/.test(line)) break;
  }
  return start + lines.slice(0, last + 1).join('').length;
}
