import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../base/errors.ts';
import { type Notification, type NotificationKind, notificationKinds, severities } from './notification.ts';
import { replaceWhole } from './whole-file.ts';

/**
 * Notifications that are not delivered yet, a file each, below `<directory>/outbox/<channel>/`. A file is called
 * `<created>-<id>.json`, and while somebody delivers it `<created>-<id>.<until>.held`: taking it is a rename, which only
 * one process can do, and whoever dies with it gives it back when `until` is over. So nothing is lost, and what was on
 * its way when the process died may be delivered twice, under the same id.
 */
export interface OutboxEntry {
  readonly version: 1;
  readonly id: string;
  readonly channel: string;
  readonly createdMs: number;
  /** When the first notification was raised that this one stands for. */
  readonly raisedMs: number;
  /** Not tried before this. */
  readonly dueMs: number;
  readonly attempts: number;
  readonly lastError: string | null;
  readonly notification: Notification;
}

/** An entry that this process holds. */
export interface HeldEntry {
  readonly entry: OutboxEntry;
  readonly path: string;
}

export interface ListedEntry {
  readonly entry: OutboxEntry;
  readonly path: string;
  /** Null: nobody delivers it now. */
  readonly heldUntilMs: number | null;
}

/** Whose clock runs ahead must not hold an entry for years. */
const LONGEST_HOLD_MS = 10 * 60_000;
const NAME = /^(\d{13}-[0-9a-f-]{36})\.(?:json|(\d{13})\.held)$/;

/** Puts an entry in, held by the caller, on the disk when this resolves. @throws as Node does: no room, no rights */
export async function putHeld(directory: string, entry: OutboxEntry, untilMs: number): Promise<HeldEntry> {
  const folder = folderOf(directory, entry.channel);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, heldName(nameOf(entry), untilMs));
  await replaceWhole(path, JSON.stringify(entry));
  return { entry, path };
}

/** A channel's entries, the oldest first. What cannot be read is put aside as `.damaged`. */
export async function listOutbox(
  directory: string,
  channel: string,
  nowMs: number,
): Promise<readonly ListedEntry[]> {
  const folder = folderOf(directory, channel);
  const names = await readdir(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  });
  const listed: ListedEntry[] = [];
  for (const name of names.sort()) {
    const match = NAME.exec(name);
    if (match === null) continue;
    const path = join(folder, name);
    const untilMs = match[2] === undefined ? null : Number(match[2]);
    const isHeld = untilMs !== null && untilMs > nowMs && untilMs - nowMs <= LONGEST_HOLD_MS;
    const entry = await readEntry(path);
    if (entry === 'gone') continue;
    if (entry === 'damaged') await rename(path, `${path}.damaged`).catch(() => undefined);
    else listed.push({ entry, path, heldUntilMs: isHeld ? untilMs : null });
  }
  return listed;
}

/** Takes an entry that nobody holds, or goes on holding one; null when another process was quicker. */
export async function hold(
  listed: Pick<ListedEntry, 'entry' | 'path'>,
  untilMs: number,
): Promise<HeldEntry | null> {
  const path = join(listed.path, '..', heldName(nameOf(listed.entry), untilMs));
  try {
    await rename(listed.path, path);
    return { entry: listed.entry, path };
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Gives an entry back, with what came of the attempt. */
export async function giveBack(held: HeldEntry, entry: OutboxEntry): Promise<void> {
  await replaceWhole(held.path, JSON.stringify(entry));
  await rename(held.path, join(held.path, '..', `${nameOf(entry)}.json`));
}

/** Takes an entry out: it was delivered, or is given up. */
export async function removeEntry({ path }: Pick<HeldEntry, 'path'>): Promise<void> {
  await rm(path, { force: true });
}

function folderOf(directory: string, channel: string): string {
  return join(directory, 'outbox', channel);
}

function nameOf({ createdMs, id }: OutboxEntry): string {
  return `${String(createdMs).padStart(13, '0')}-${id}`;
}

function heldName(name: string, untilMs: number): string {
  return `${name}.${String(Math.round(untilMs)).padStart(13, '0')}.held`;
}

async function readEntry(path: string): Promise<OutboxEntry | 'gone' | 'damaged'> {
  try {
    const read: unknown = JSON.parse(await readFile(path, 'utf8'));
    return isEntry(read) ? read : 'damaged';
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 'gone';
    if (error instanceof SyntaxError) return 'damaged';
    throw error;
  }
}

function isEntry(read: unknown): read is OutboxEntry {
  if (typeof read !== 'object' || read === null) return false;
  const { version, id, channel, createdMs, raisedMs, dueMs, attempts, notification } = read as OutboxEntry;
  if (version !== 1 || typeof id !== 'string' || typeof channel !== 'string') return false;
  if (![createdMs, raisedMs, dueMs, attempts].every(Number.isFinite)) return false;
  if (typeof notification !== 'object' || notification === null) return false;
  const { kind, severity, title, instance, dedupKey, facts, commands } = notification;
  return (
    (notificationKinds as readonly NotificationKind[]).includes(kind) &&
    severities.includes(severity) &&
    [title, instance, dedupKey].every(text => typeof text === 'string') &&
    Array.isArray(facts) &&
    Array.isArray(commands)
  );
}
