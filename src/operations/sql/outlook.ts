import type { Session } from '../../engines/postgres/connection.ts';
import type { RowChange } from '../../engines/postgres/sql/row-changes.ts';
import type { StatementClass } from '../../engines/postgres/sql/statement-class.ts';
import {
  estimateRows,
  type ResolvedTable,
  type RowEstimate,
  readKeyColumns,
  readSideEffects,
  resolveTable,
  type SideEffects,
} from '../../engines/postgres/sql/statement-outlook.ts';
import type { Scope } from './scope.ts';

/** What is known of a statement before it runs. */
export interface Outlook {
  readonly command: string;
  readonly dangers: readonly string[];
  readonly remarks: readonly string[];
  /** The planner's; empty where there is none. */
  readonly estimates: readonly RowEstimate[];
  readonly sideEffects: SideEffects;
}

/** An outlook, and what it found out on the way. */
export interface Prospect {
  readonly outlook: Outlook;
  readonly estimatedRows: number;
  /** The only table whose rows are changed, where their keys can be shown. */
  readonly keyed: { readonly alias: string; readonly columns: readonly string[] } | null;
}

/** Looks ahead inside an open scope, without running the statement. */
export async function lookAhead(
  session: Session,
  text: string,
  { found, scope }: { readonly found: StatementClass; readonly scope: Scope },
): Promise<Prospect> {
  const estimates = await estimate(session, text, { found, scope });
  const sides: SideEffects[] = [];
  let keyed: Prospect['keyed'] = null;
  for (const change of found.changes) {
    const table = await resolveTable(session, change.table);
    if (table === null) continue;
    const side = await readSideEffects(session, change, table);
    sides.push(side);
    keyed = found.changes.length === 1 ? await keyOf(session, { change, table, side }) : null;
  }
  const sideEffects: SideEffects = {
    triggers: distinct(sides.flatMap(({ triggers }) => triggers)),
    cascades: distinct(sides.flatMap(({ cascades }) => cascades)),
    rules: distinct(sides.flatMap(({ rules }) => rules)),
  };
  const { command, dangers, remarks } = found;
  return {
    outlook: { command, dangers, remarks, estimates, sideEffects },
    estimatedRows: estimates.reduce((sum, { rows }) => sum + rows, 0),
    keyed,
  };
}

async function estimate(
  session: Session,
  text: string,
  { found, scope }: { readonly found: StatementClass; readonly scope: Scope },
): Promise<readonly RowEstimate[]> {
  const planned = /^(INSERT|UPDATE|DELETE|MERGE|SELECT|EXECUTE)$/.test(found.command);
  if (!planned || found.kind !== 'write') return [];
  try {
    return await estimateRows(session, text);
  } catch {
    // Whatever is wrong with the statement, running it says so in its own words.
    await scope.undo();
    await scope.open();
    return [];
  }
}

async function keyOf(
  session: Session,
  {
    change,
    table,
    side,
  }: { readonly change: RowChange; readonly table: ResolvedTable; readonly side: SideEffects },
): Promise<Prospect['keyed']> {
  const hasRows = /^(update|delete)$/.test(change.operation) && /^[rp]$/.test(table.kind);
  if (!hasRows || side.rules.length > 0) return null;
  const columns = await readKeyColumns(session, table);
  return columns.length === 0 ? null : { alias: change.alias, columns };
}

function distinct<T>(list: readonly T[]): readonly T[] {
  return [...new Map(list.map(each => [JSON.stringify(each), each])).values()];
}
