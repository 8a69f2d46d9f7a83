import type { Session } from '../../engines/postgres/connection.ts';
import type { MergedRows } from './merge-rows.ts';
import type { LeftRows, UndoneTable, UndoTableFacts } from './undo-report.ts';
import { addLeft, sampleKeys, type WeighedTable, weighRows } from './weigh-rows.ts';

/** Compares every row that was destroyed with the live table, once they are put back. */
export async function proveTable(
  live: Session,
  done: { readonly weighed: WeighedTable; readonly rows: MergedRows; readonly xids: readonly number[] },
  signal: AbortSignal,
): Promise<{ readonly undone: UndoneTable; readonly facts: UndoTableFacts }> {
  const { weighed, rows, xids } = done;
  const { staged } = weighed;
  const after = await weighRows(live, staged, xids, signal);
  const lefts = [...after.facts.left];
  for (const left of await refusedRows(live, after, { rows, xids }, signal)) addLeft(lefts, left);
  const same = after.counts.filter(each => each.state === 'same');
  const sum = (of: 'checksum' | 'liveChecksum'): bigint =>
    same.reduce((total, each) => total + BigInt(each[of] ?? 0), 0n);
  const [source, now] = [sum('checksum'), sum('liveChecksum')];
  return {
    facts: { ...after.facts, left: lefts },
    undone: {
      schema: weighed.facts.schema,
      table: weighed.facts.table,
      inserted: rows.inserted,
      setBack: rows.setBack,
      proof: {
        rows: after.facts.present,
        sourceChecksum: String(source),
        liveChecksum: String(now),
        equal: source === now,
      },
    },
  };
}

/** Rows that should be back and are not: another row has one of their unique values, or the table refused them with words. */
async function refusedRows(
  live: Session,
  after: WeighedTable,
  done: { readonly rows: MergedRows; readonly xids: readonly number[] },
  signal: AbortSignal,
): Promise<LeftRows[]> {
  const reason = 'refused by a constraint' as const;
  const left: LeftRows[] = done.rows.refused.map(({ rows, message }) => ({
    reason,
    rows,
    keys: [],
    message,
  }));
  const told = left.reduce((sum, each) => sum + each.rows, 0);
  const keys: string[] = [];
  for (const [state, fates] of [
    ['absent', after.insertFates],
    ['own', after.setBackFates],
  ] as const)
    for (const fate of fates) {
      const found = after.counts.some(each => each.fate === fate && each.state === state);
      const of = { xids: done.xids, fate, state };
      if (found) keys.push(...(await sampleKeys(live, after.staged, of, signal)));
    }
  const untold = after.facts.toInsert + after.facts.toSetBack - told;
  if (untold > 0) return [...left, { reason, rows: untold, keys, message: null }];
  return left.length === 0 ? [] : left.map((each, index) => (index === 0 ? { ...each, keys } : each));
}
