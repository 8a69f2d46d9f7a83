import { isDeepStrictEqual } from 'node:util';
import { type Document, isCollection, isMap, isNode, isSeq, parseDocument } from 'yaml';
import { didYouMean } from '../base/did-you-mean.ts';
import { AppError } from '../base/errors.ts';
import type { AlertChanges } from './alert-changes.ts';
import { spliceSections } from './splice-sections.ts';

/**
 * A configuration's text with these changes; comments, order and everything else stay. It must be a configuration that
 * parseConfig accepts, and is to be given to it again.
 * @throws EXISTS a channel of this name is of another type; CHANNEL_NOT_FOUND
 */
export function withAlertChanges(text: string, changes: AlertChanges): string {
  const document = parseDocument(text);
  for (const name of changes.removed) removeChannel(document, name);
  for (const { name, keys } of changes.channels) setChannel(document, name, keys);
  set(document, ['alerts', 'on_incident', 'channels'], changes.incidentChannels);
  set(document, ['alerts', 'on_failure', 'channels'], changes.failureChannels);
  set(document, ['alerts', 'on_failure', 'severity'], changes.failureSeverity);
  set(document, ['alerts', 'on_success', 'channels'], changes.successChannels);
  set(document, ['alerts', 'on_success', 'frequency'], changes.successFrequency);
  set(document, ['notifications', 'repeat_after'], changes.repeatAfter);
  checkNames(document, changes);
  return spliceSections(text, document, ['notifications', 'alerts']);
}

type Path = readonly string[];
const channelsPath: Path = ['notifications', 'channels'];

function setChannel(document: Document, name: string, keys: Readonly<Record<string, unknown>>): void {
  const type = document.getIn([...channelsPath, name, 'type']);
  if (type !== undefined && type !== keys['type']) {
    throw new AppError('EXISTS', `channel '${name}' exists already, of type ${String(type)}`, {
      hint: `Choose another name with --channel, or take that one out with --remove ${name}.`,
    });
  }
  for (const [key, value] of Object.entries(keys)) set(document, [...channelsPath, name, key], value);
}

/** Sets a value, and makes the groups around it where there are none. The comment behind an old value stays. */
function set(document: Document, path: Path, value: unknown): void {
  if (value === null) return;
  for (let length = 1; length < path.length; length += 1) {
    const around = path.slice(0, length);
    if (!document.hasIn(around)) document.setIn(around, document.createNode({}));
    const made = document.getIn(around, true);
    // An empty group is written as {}; what is put into it belongs on lines of its own.
    if (isCollection(made) && made.items.length === 0) made.flow = false;
  }
  const old = document.getIn(path, true);
  if (isNode(old) && isDeepStrictEqual(old.toJS(document), value)) return;
  const node = document.createNode(value);
  if (isSeq(node)) node.flow = true;
  if (isNode(old) && isNode(node) && old.comment) node.comment = old.comment;
  document.setIn(path, node);
}

/** Also out of the lists that name it. One that is empty then goes too: more people hear of it rather than nobody. */
function removeChannel(document: Document, name: string): void {
  if (!document.hasIn([...channelsPath, name])) throw notFound(name, channelNames(document));
  document.deleteIn([...channelsPath, name]);
  for (const event of ['on_incident', 'on_failure', 'on_success']) {
    const path = ['alerts', event, 'channels'];
    const list = document.getIn(path, true);
    if (!isSeq(list)) continue;
    const kept = list.items.filter((_, index) => list.get(index) !== name);
    if (kept.length === 0) document.deleteIn(path);
    else list.items = kept;
  }
}

function checkNames(document: Document, changes: AlertChanges): void {
  const known = channelNames(document);
  const lists = [changes.incidentChannels, changes.failureChannels, changes.successChannels];
  const unknown = lists.flatMap(list => list ?? []).find(name => !known.includes(name));
  if (unknown !== undefined) throw notFound(unknown, known);
}

function channelNames(document: Document): readonly string[] {
  const channels = document.getIn(channelsPath, true);
  return isMap(channels) ? Object.keys(channels.toJS(document)) : [];
}

function notFound(name: string, known: readonly string[]): AppError {
  const near = didYouMean(name, known);
  const has = known.length === 0 ? 'There are no channels yet.' : `There are: ${known.join(', ')}.`;
  return new AppError('CHANNEL_NOT_FOUND', `there is no channel '${name}'`, {
    hint: near === null ? has : `Did you mean '${near}'?`,
  });
}
