import { queryRows, type Session } from '../../engines/postgres/connection.ts';

/** What a statement is run in, so that it can be taken back: a transaction of its own, or a savepoint in the user's. */
export interface Scope {
  /** The user's own transaction goes on around it. */
  readonly nested: boolean;
  open(): Promise<void>;
  /** What was done stays: committed, or part of the user's transaction. */
  keep(): Promise<void>;
  /** Nothing of what was done stays. */
  undo(): Promise<void>;
}

const SAVEPOINT = 'aishell_statement';

/** @param readOnly the server refuses whatever would change something */
export function createScope(session: Session, { readOnly }: { readonly readOnly: boolean }): Scope {
  const send = async (...statements: readonly string[]): Promise<void> => {
    for (const text of statements) await queryRows(session, 'control the transaction', { text });
  };
  if (session.getTransactionStatus() === 'I') {
    return {
      nested: false,
      open: () => send(readOnly ? 'begin read only' : 'begin'),
      keep: () => send('commit'),
      undo: () => send('rollback'),
    };
  }
  const undo = (): Promise<void> =>
    send(`rollback to savepoint ${SAVEPOINT}`, `release savepoint ${SAVEPOINT}`);
  return {
    nested: true,
    open: () => send(`savepoint ${SAVEPOINT}`, ...(readOnly ? ['set local transaction_read_only = on'] : [])),
    // What was only read leaves nothing to keep, but for that setting.
    keep: () => (readOnly ? undo() : send(`release savepoint ${SAVEPOINT}`)),
    undo,
  };
}
