import type pg from 'pg';
import type { Session } from '../connection.ts';

export interface Column {
  readonly name: string;
  /** Of its type, in pg_type. */
  readonly typeOid: number;
}

/** A row as the server writes it: PostgreSQL's own text of each value, so that nothing is lost on the way. */
export type TextRow = readonly (string | null)[];

export interface StreamHandlers {
  /** Rows are fetched in portions of so many; the next one only when this one was taken. */
  readonly batchRows: number;
  /** False: no more rows are wanted, and what the server did not do for them yet is not done. */
  onRows(rows: readonly TextRow[], columns: readonly Column[]): Promise<boolean>;
}

export interface StreamedStatement {
  /** Null for a statement that gives no rows. */
  readonly columns: readonly Column[] | null;
  readonly readRows: number;
  /** `DELETE 5`; null where no more rows were wanted. */
  readonly tag: string | null;
}

/** The part of the driver's connection that the extended protocol needs; its types say otherwise in places. */
interface Wire {
  parse(message: { readonly text: string; readonly name: string; readonly types: readonly number[] }): void;
  bind(message: {
    readonly portal: string;
    readonly statement: string;
    readonly values: readonly unknown[];
  }): void;
  describe(message: { readonly type: 'P'; readonly name: string }): void;
  execute(message: { readonly portal: string; readonly rows: number }): void;
  close(message: { readonly type: 'P'; readonly name: string }): void;
  flush(): void;
  sync(): void;
}

/**
 * Runs one statement and hands its rows on as they come. It goes over the extended protocol, so the server itself refuses
 * more than one statement: nothing can hide behind what was looked at.
 *
 * @throws the server's error, as the driver gives it
 */
export async function streamStatement(
  session: Session,
  text: string,
  handlers: StreamHandlers,
): Promise<StreamedStatement> {
  const stream = new StatementStream(text, handlers);
  session.query(stream as unknown as pg.Submittable);
  return await stream.done;
}

/** What the driver calls while a statement runs. */
class StatementStream {
  readonly done: Promise<StreamedStatement>;
  readonly #text: string;
  readonly #handlers: StreamHandlers;
  readonly #settle: PromiseWithResolvers<StreamedStatement>;
  #columns: readonly Column[] | null = null;
  #rows: TextRow[] = [];
  #readRows = 0;
  #tag: string | null = null;
  #suspended = false;
  #failure: { readonly error: unknown } | null = null;

  constructor(text: string, handlers: StreamHandlers) {
    this.#text = text;
    this.#handlers = handlers;
    this.#settle = Promise.withResolvers();
    this.done = this.#settle.promise;
  }

  submit(wire: Wire): void {
    wire.parse({ text: this.#text, name: '', types: [] });
    wire.bind({ portal: '', statement: '', values: [] });
    wire.describe({ type: 'P', name: '' });
    this.#execute(wire);
  }

  handleRowDescription({
    fields,
  }: {
    readonly fields: readonly { name: string; dataTypeID: number }[];
  }): void {
    this.#columns = fields.map(field => ({ name: field.name, typeOid: field.dataTypeID }));
  }

  handleDataRow({ fields }: { readonly fields: TextRow }): void {
    this.#rows.push(fields);
    this.#readRows += 1;
  }

  handlePortalSuspended(wire: Wire): void {
    this.#suspended = true;
    this.#handOn().then(
      more => (more ? this.#execute(wire) : this.#stop(wire)),
      error => {
        this.#failure = { error };
        this.#stop(wire);
      },
    );
  }

  handleCommandComplete({ text }: { readonly text: string }, wire: Wire): void {
    // What is fetched in portions is counted by the portion.
    this.#tag = this.#suspended ? text.replace(/\d+$/, String(this.#readRows)) : text;
    wire.sync();
  }

  handleEmptyQuery(wire: Wire): void {
    wire.sync();
  }

  handleError(error: unknown, wire: Wire): void {
    // The server passes over everything up to this.
    wire.sync();
    this.#settle.reject(error);
  }

  handleReadyForQuery(): void {
    if (this.#failure !== null) {
      this.#settle.reject(this.#failure.error);
      return;
    }
    const finish = (): void =>
      this.#settle.resolve({ columns: this.#columns, readRows: this.#readRows, tag: this.#tag });
    this.#handOn().then(finish, this.#settle.reject);
  }

  #execute(wire: Wire): void {
    wire.execute({ portal: '', rows: this.#handlers.batchRows });
    wire.flush();
  }

  #stop(wire: Wire): void {
    wire.close({ type: 'P', name: '' });
    wire.sync();
  }

  async #handOn(): Promise<boolean> {
    const rows = this.#rows;
    this.#rows = [];
    if (this.#columns === null || rows.length === 0) return true;
    return await this.#handlers.onRows(rows, this.#columns);
  }
}

/** The number of rows in a command's tag: 5 of `INSERT 0 5`; null for one that counts none. */
export function rowsOfTag(tag: string | null): number | null {
  const match = /^[A-Z ]+?(?: 0)? (\d+)$/.exec(tag ?? '');
  return match === null ? null : Number(match[1]);
}
