import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import {
  type RowFate,
  type RowState,
  sampleKeysSql,
  stateCountsSql,
} from '../../engines/postgres/undo-statements.ts';
import type { StagedTable } from './stage-rows.ts';
import { expectedRows } from './stage-rows.ts';
import type { LeftReason, LeftRows, UndoTableFacts } from './undo-report.ts';

export interface StateCount {
  readonly fate: RowFate;
  readonly state: RowState;
  readonly rows: number;
  /** Sums of hashes: of the source's rows, and of the live ones they stand for. */
  readonly checksum: string | null;
  readonly liveChecksum: string | null;
}

/** What can be done with the rows of a table, as it is now. */
export interface WeighedTable {
  readonly staged: StagedTable;
  readonly counts: readonly StateCount[];
  readonly facts: UndoTableFacts;
  /** Rows of these fates are inserted where they are absent; set back where they are as the transaction left them. */
  readonly insertFates: readonly RowFate[];
  readonly setBackFates: readonly RowFate[];
}

const SAMPLE_KEYS = 5;

/** Compares the gathered rows with the live table. Changes nothing. */
export async function weighRows(
  live: Session,
  staged: StagedTable,
  xids: readonly number[],
  signal: AbortSignal,
): Promise<WeighedTable> {
  const { table } = staged;
  const counts = await countStates(live, staged, xids, signal);
  const rules = rulesFor(table, counts);
  const left: LeftRows[] = [];
  for (const { reason, fate, state, rows } of leftOf(counts, rules)) {
    const keys = await sampleKeys(live, staged, { xids, fate, state }, signal);
    addLeft(left, { reason, rows, keys, message: null });
  }
  const expected = expectedRows(table) ?? staged.rows;
  const unread = table.key !== null || table.rows === null ? 0 : expected - table.rows.deleted.size;
  if (unread > 0) addLeft(left, { reason: 'table without a key', rows: unread, keys: [], message: null });
  const missing = expected - unread - staged.rows;
  if (missing > 0) addLeft(left, { reason: 'not in the source', rows: missing, keys: [], message: null });
  const sum = (is: (each: StateCount) => boolean): number =>
    counts.filter(is).reduce((rows, each) => rows + each.rows, 0);
  const facts: UndoTableFacts = {
    schema: table.live.schema,
    table: table.live.name,
    act: table.act,
    destroyed: expected,
    updated: (table.rows?.updated.size ?? 0) + (table.rows?.rekeyed.size ?? 0),
    present: sum(each => each.state === 'same'),
    toInsert: sum(each => each.state === 'absent' && rules.insertFates.includes(each.fate)),
    toSetBack: sum(each => each.state === 'own' && rules.setBackFates.includes(each.fate)),
    left,
    key: table.key?.index ?? null,
  };
  return { staged, counts, facts, ...rules };
}

/** Keys of some rows of a fate in a state. */
export async function sampleKeys(
  live: Session,
  { table }: StagedTable,
  of: { readonly xids: readonly number[]; readonly fate: RowFate; readonly state: RowState },
  signal: AbortSignal,
): Promise<string[]> {
  const found = await queryRows<{ key: string }>(live, 'look at rows that are left', {
    text: sampleKeysSql(table, SAMPLE_KEYS),
    values: [of.xids, of.fate, of.state],
    signal,
  });
  return found.map(each => each.key);
}

function countStates(
  live: Session,
  { table }: StagedTable,
  xids: readonly number[],
  signal: AbortSignal,
): Promise<StateCount[]> {
  return queryRows<StateCount>(live, `compare ${table.live.schema}.${table.live.name}`, {
    text: stateCountsSql(table),
    values: [xids],
    signal,
  });
}

interface Rules {
  readonly insertFates: readonly RowFate[];
  readonly setBackFates: readonly RowFate[];
}

function rulesFor({ rows }: Pick<StagedTable['table'], 'rows'>, counts: readonly StateCount[]): Rules {
  const absent = (fate: RowFate): number =>
    counts.find(each => each.fate === fate && each.state === 'absent')?.rows ?? 0;
  // A row that was updated and is gone was deleted by the transaction itself, or by somebody since. The log says how many it
  // deleted of what it had made: only if that is all of them is it known whose they are.
  const isOwn = absent('u') > 0 && absent('u') === rows?.ownDeleted;
  // Where unique values were changed, rows may have taken each other's place under a key: putting one back by its key
  // could destroy what has moved there. Unless every one of the old keys is there.
  const isSafe = absent('k') === 0;
  return {
    insertFates: isOwn ? ['d', 'u'] : ['d'],
    setBackFates: isSafe ? ['d', 'u', 'k'] : ['d', 'u'],
  };
}

function leftOf(
  counts: readonly StateCount[],
  rules: Rules,
): {
  readonly reason: LeftReason;
  readonly fate: RowFate;
  readonly state: RowState;
  readonly rows: number;
}[] {
  return counts.flatMap(({ fate, state, rows }) => {
    const reason = reasonFor(fate, state, rules);
    return reason === null ? [] : [{ reason, fate, state, rows }];
  });
}

function reasonFor(fate: RowFate, state: RowState, rules: Rules): LeftReason | null {
  if (state === 'same') return null;
  if (fate === 'm') return 'moved to another partition';
  if (fate === 'k' && !rules.setBackFates.includes('k')) return 'key changed';
  if (state === 'own') return null;
  if (state === 'absent') return rules.insertFates.includes(fate) ? null : 'deleted since';
  return fate === 'd' ? 're-inserted since' : 'changed since';
}

/** Rows that are left for the same reason are told of together. */
export function addLeft(left: LeftRows[], more: LeftRows): void {
  const index = left.findIndex(each => each.reason === more.reason && each.message === more.message);
  const known = left[index];
  if (known === undefined) left.push(more);
  else {
    const keys = [...known.keys, ...more.keys].slice(0, SAMPLE_KEYS);
    left[index] = { ...known, rows: known.rows + more.rows, keys };
  }
}
