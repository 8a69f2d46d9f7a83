import { queryRows, type Session } from './connection.ts';
import { definitionSql, lostSql, refusalSql } from './table-definition-sql.ts';

/** When a statement is due. `references` are those of other tables too, and fail where rows were lost elsewhere. */
export type DefinitionPhase = 'table' | 'filled' | 'references';

export interface DefinitionStatement {
  readonly phase: DefinitionPhase;
  readonly text: string;
}

/** How to make a table anew. */
export interface TableDefinition {
  /** In the order in which they are run. */
  readonly statements: readonly DefinitionStatement[];
  /** Why it cannot be made anew by statements; empty where it can. */
  readonly refusals: readonly string[];
  /** What hung on it and is not made anew. */
  readonly lost: readonly string[];
}

/**
 * Reads what a table is made of, where it still is: columns, sequences, constraints, indexes, triggers, owner, rights, policies,
 * comments. The server writes its own definitions out, with every name in its schema, as our sessions have no search_path.
 *
 * @source PostgreSQL's own pg_dump; the manual, "System Catalog Information Functions"
 */
export async function readTableDefinition(
  session: Session,
  oid: number,
  signal: AbortSignal,
): Promise<TableDefinition> {
  const ask = <Row extends object>(text: string): Promise<Row[]> =>
    queryRows<Row>(session, 'read the definition of a table', { text, values: [oid], signal });
  const refusals = await ask<{ why: string }>(refusalSql);
  const statements = await ask<DefinitionStatement>(definitionSql);
  const lost = await ask<{ what: string }>(lostSql);
  return {
    statements: statements.map(({ phase, text }) => ({ phase, text })),
    refusals: refusals.map(({ why }) => why),
    lost: lost.map(({ what }) => what),
  };
}
