import { AppError } from '../../base/errors.ts';
import type { ServerChange } from '../../engines/postgres/write-controls.ts';

/** From the gentlest to the surest. */
export const stopLevels = ['soft', 'hard', 'strict'] as const;
export type StopLevel = (typeof stopLevels)[number];

export function isStricter(level: StopLevel, other: StopLevel): boolean {
  return stopLevels.indexOf(level) > stopLevels.indexOf(other);
}

/** The file that makes the server start in recovery mode; it was not there before. */
export interface StandbySignalChange {
  readonly kind: 'standby-signal';
  readonly dataDirectory: string;
}

/** The file that switches the maintenance page on; it was not there before. */
export interface MaintenanceFileChange {
  readonly kind: 'maintenance-file';
  readonly path: string;
}

export type Change = ServerChange | StandbySignalChange | MaintenanceFileChange;

/**
 * Everything that a stop may change, with what was there before. It is written before the first change, to this machine
 * and to the repository, and it is all that is needed to put everything back: a change that was never made is found as it
 * was before. A stricter stop later makes a new record of the same id with a higher sequence, which holds all of the
 * earlier ones.
 */
export interface StopRecord {
  readonly format: 1;
  readonly id: string;
  readonly sequence: number;
  readonly instance: string;
  readonly systemIdentifier: string;
  readonly level: StopLevel;
  readonly reason: string | null;
  /** When the first stop of this id began. */
  readonly stoppedAt: string;
  readonly by: { readonly user: string; readonly host: string };
  readonly toolVersion: string;
  /** Stays open for this program. */
  readonly controlDatabase: string;
  readonly changes: readonly Change[];
}

/** `stop_20251027_140024_abc123`: sorts by time. */
export function newStopId(now: Date, random: Uint8Array): string {
  const digits = now.toISOString().replace(/[-:]/g, '');
  return `stop_${digits.slice(0, 8)}_${digits.slice(9, 15)}_${Buffer.from(random.subarray(0, 3)).toString('hex')}`;
}

/** What the marks inside files say that this stop made them. */
export function stopMark(record: Pick<StopRecord, 'id'>): string {
  return `aishell ${record.id}`;
}

/** What a change is about: two changes of one thing have the same. */
export function changeKey(change: Change): string {
  switch (change.kind) {
    case 'setting':
      return JSON.stringify([change.kind, change.name]);
    case 'role-setting':
      return JSON.stringify([change.kind, change.role, change.database, change.name]);
    case 'database':
      return JSON.stringify([change.kind, change.oid]);
    case 'subscription':
      return JSON.stringify([change.kind, change.database, change.name]);
    case 'standby-signal':
      return JSON.stringify([change.kind]);
    case 'maintenance-file':
      return JSON.stringify([change.kind, change.path]);
  }
}

/**
 * Adds what a later stop changes. Of what was changed before, the first record's `before` is the true one: what the later
 * stop found was this program's own doing.
 */
export function mergeChanges(known: readonly Change[], added: readonly Change[]): Change[] {
  const merged = new Map(known.map(change => [changeKey(change), change]));
  for (const change of added) {
    const first = merged.get(changeKey(change));
    merged.set(
      changeKey(change),
      first === undefined ? change : ({ ...change, ...beforeOf(first) } as Change),
    );
  }
  return [...merged.values()];
}

function beforeOf(change: Change): object {
  return 'before' in change ? { before: change.before } : {};
}

const kinds = new Set<unknown>([
  'setting',
  'role-setting',
  'database',
  'subscription',
  'standby-signal',
  'maintenance-file',
]);

/**
 * Reads a record that was kept. What it says is going to be done to a server, so what is not known is refused.
 *
 * @throws CORRUPT UNSUPPORTED
 */
export function parseStopRecord(value: unknown, where: string): StopRecord {
  const record = value as Partial<StopRecord> | null;
  if (typeof record !== 'object' || record === null || typeof record.format !== 'number')
    throw damaged(where);
  const changes: readonly (Change | null)[] = Array.isArray(record.changes) ? record.changes : [null];
  const unknown = changes.some(
    change => typeof change === 'object' && change !== null && !kinds.has(change.kind),
  );
  if (record.format !== 1 || unknown) {
    throw new AppError('UNSUPPORTED', `unable to read the record of stopped writes in ${where}`, {
      hint: 'It was written by a newer version of aishell: install that one.',
    });
  }
  const texts = [
    record.id,
    record.instance,
    record.systemIdentifier,
    record.stoppedAt,
    record.controlDatabase,
  ];
  const good =
    texts.every(text => typeof text === 'string' && text !== '') &&
    /^stop_[a-z0-9_]+$/.test(record.id ?? '') &&
    Number.isInteger(record.sequence) &&
    stopLevels.some(level => level === record.level) &&
    typeof record.by === 'object' &&
    changes.every(change => typeof change === 'object' && change !== null);
  if (!good) throw damaged(where);
  return record as StopRecord;
}

function damaged(where: string): AppError {
  return new AppError('CORRUPT', `unable to read the record of stopped writes in ${where}: it is damaged`, {
    hint: 'The other copy may be whole: on this machine in the state directory, and in the repository.',
  });
}
