import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { quoteIdentifier } from '../../engines/postgres/connection-errors.ts';
import { rowsOfTag } from '../../engines/postgres/sql/stream-statement.ts';
import {
  type EffectScope,
  readTableEffects,
  readTableStates,
} from '../../engines/postgres/sql/table-effects.ts';
import { collectRows, type RowCollector } from './collect-rows.ts';
import type { Prospect } from './outlook.ts';
import type { Scope } from './scope.ts';
import { runText } from './sql-session.ts';
import { countChangedRows, type StatementReport } from './statement-report.ts';
import { blankReport, type StatementRun } from './statement-run.ts';

const SAMPLE_KEYS = 5;
/** What is kept of the rows that a statement gives, until it is decided whether they are true. */
const KEPT_ROWS = 10_000;

/** What a statement has done in a scope that is still open. */
export interface Trial {
  readonly report: StatementReport;
  readonly rows: RowCollector;
}

/** What these settings were before a confirmation has switched them on; null: not set. */
export interface AllowedBefore {
  readonly massWrite: string | null;
  readonly destructiveDdl: string | null;
}

/** Settings that a person's confirmation switches on, until the transaction ends or they are taken back: see docs/security.md. */
export async function allowMassWrites(session: Session): Promise<AllowedBefore> {
  const before = await queryRow<AllowedBefore>(session, 'see what is allowed', {
    text: `select pg_catalog.current_setting('aishell.allow_mass_write', true) as "massWrite",
                  pg_catalog.current_setting('aishell.allow_destructive_ddl', true) as "destructiveDdl"`,
  });
  await queryRows(session, 'allow what was confirmed', {
    text: `select pg_catalog.set_config('aishell.allow_mass_write', 'on', true),
                  pg_catalog.set_config('aishell.allow_destructive_ddl', 'on', true)`,
  });
  return before;
}

/** One statement was confirmed, and not those that follow it in the same transaction. */
export async function allowNoMore(session: Session, before: AllowedBefore): Promise<void> {
  await queryRows(session, 'take back what was allowed', {
    text: `select pg_catalog.set_config('aishell.allow_mass_write', $1, true),
                  pg_catalog.set_config('aishell.allow_destructive_ddl', $2, true)`,
    values: [before.massWrite ?? '', before.destructiveDdl ?? ''],
  });
}

/** Runs a statement in an open scope, and looks at what it has done. @throws StatementError */
export async function tryStatement(
  run: StatementRun,
  { scope, sample }: { readonly scope: Scope; readonly sample: Prospect['keyed'] },
): Promise<Trial> {
  const { session, statement, found, settings } = run;
  const effectScope: EffectScope = found.kind === 'write' && !truncates(run) ? 'rows' : 'objects';
  const before = await readTableStates(session, effectScope);
  const keep = sample === null ? (settings.limit ?? KEPT_ROWS) : SAMPLE_KEYS;
  const rows = collectRows({ keep: Math.min(keep, KEPT_ROWS), stops: false });
  const result = await runText(
    session,
    sample === null ? statement.text : withKeys(statement.text, sample),
    rows,
  );
  // What is put off to the commit is done now, so that it is seen, and can be taken back.
  if (!scope.nested) await queryRows(session, 'check constraints', { text: 'set constraints all immediate' });
  const tables = await readTableEffects(session, before);
  const { xid } = await queryRow<{ xid: string | null }>(session, 'ask for the transaction', {
    text: 'select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text as xid',
  });
  const isWrite = /^(INSERT|UPDATE|DELETE|MERGE|COPY)/.test(result.tag ?? '');
  const changed = countChangedRows(tables, isWrite ? (rowsOfTag(result.tag) ?? 0) : 0);
  return {
    rows,
    report: {
      ...blankReport(run, 'rolled back'),
      tag: result.tag,
      tables,
      changedRows: changed,
      xid,
      ...(sample === null
        ? { columns: result.columns, resultRows: result.readRows, hidden: rows.hidden() }
        : { sampleKeys: rows.kept.map(row => keyText(sample.columns, row)) }),
    },
  };
}

function truncates({ found }: StatementRun): boolean {
  return found.changes.some(({ operation }) => operation === 'truncate');
}

/** The statement, giving the keys of the rows it changes. */
function withKeys(text: string, { alias, columns }: NonNullable<Prospect['keyed']>): string {
  const list = columns.map(name => `${quoteIdentifier(alias)}.${quoteIdentifier(name)}`).join(', ');
  // On a line of its own: the statement may end with a comment.
  return `${text}\nRETURNING ${list}`;
}

function keyText(columns: readonly string[], row: readonly (string | null)[]): string {
  return columns.map((name, index) => `${name}=${row[index] ?? 'NULL'}`).join(', ');
}
