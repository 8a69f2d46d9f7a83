import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { queryRows } from './connection.ts';

export type CheckKind = 'indexes' | 'tables' | 'foreignKeys' | 'rows';

export interface CheckProblem {
  readonly database: string;
  /** Schema and name, quoted as SQL takes them. */
  readonly object: string;
  readonly message: string;
}

export interface KindResult {
  /** What there is to check. */
  total: number;
  checked: number;
  /** Not checked, or not to the end, because the time was over. */
  leftForTime: number;
  /** Not checked for another reason, which is named. */
  readonly skipped: CheckProblem[];
  readonly problems: CheckProblem[];
}

export function emptyKind(): KindResult {
  return { total: 0, checked: 0, leftForTime: 0, skipped: [], problems: [] };
}

/** One kind of check in one database. */
export interface Session {
  readonly client: pg.Client;
  readonly database: string;
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
  readonly result: KindResult;
  readonly onProgress: () => void;
  readonly signal?: AbortSignal;
}

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
}

/** A statement of a check, not bound by its time: for what is small, such as lists. */
export async function ask<Row extends object>(
  session: Session,
  doing: string,
  statement: Statement,
): Promise<Row[]> {
  await setTimeout(session, 0);
  return await queryRows<Row>(session.client, doing, { ...statement, ...signalOf(session) });
}

/**
 * Checks one object within what is left of the time, and counts it. `check` gives the problems it found; a failure that
 * is not the database's damage is kept apart, as skipped.
 */
export async function checkObject(
  session: Session,
  object: string,
  check: (run: <Row extends object>(statement: Statement) => Promise<Row[]>) => Promise<readonly string[]>,
): Promise<void> {
  const { result, database } = session;
  const leftMs = Math.floor(session.deadline - performance.now());
  if (leftMs < 1) {
    result.leftForTime += 1;
    return;
  }
  try {
    await setTimeout(session, leftMs);
    const found = await check(statement =>
      queryRows(session.client, `check ${object}`, { ...statement, ...signalOf(session) }),
    );
    result.checked += 1;
    for (const message of found) result.problems.push({ database, object, message });
  } catch (error) {
    countFailure(session, object, error);
  }
  session.onProgress();
}

function countFailure(session: Session, object: string, error: unknown): void {
  const { result, database } = session;
  if (!(error instanceof AppError) || error.code === 'DATABASE_UNREACHABLE') throw error;
  const message = error.message.replace(`unable to check ${object}: `, '');
  const sqlState = String(error.details?.sqlState ?? '');
  if (error.code === 'TIMEOUT') {
    result.leftForTime += 1;
  } else if (isDamage(sqlState)) {
    result.checked += 1;
    result.problems.push({ database, object, message });
  } else if (isGone(sqlState)) {
    // Dropped since the list was made, as happens on a server in use.
    result.total -= 1;
  } else {
    result.skipped.push({ database, object, message });
  }
}

/**
 * Class XX is what PostgreSQL raises over damaged pages and indexes, and over what cannot be; class 58 over missing and
 * unreadable files; 22P0x and 22021 are what undecodable values of a damaged row end in.
 * @source PostgreSQL manual, "PostgreSQL Error Codes"
 */
function isDamage(sqlState: string): boolean {
  return /^(XX|58)/.test(sqlState) || ['22021', '22P02', '22P03', '22P05'].includes(sqlState);
}

function isGone(sqlState: string): boolean {
  return ['42P01', '42704', '3F000'].includes(sqlState);
}

async function setTimeout(session: Session, ms: number): Promise<void> {
  await queryRows(session.client, 'limit the time of a check', {
    text: `select pg_catalog.set_config('statement_timeout', $1, false)`,
    values: [String(ms)],
    ...signalOf(session),
  });
}

function signalOf(session: Session): { signal?: AbortSignal } {
  return session.signal === undefined ? {} : { signal: session.signal };
}
