import type { Duplex } from 'node:stream';
import pg from 'pg';
import type { Session } from './connection.ts';
import { statementError } from './connection-errors.ts';

/** What of the driver's connection is needed here, and not part of its types. */
interface DriverConnection {
  readonly stream: Duplex;
  endCopyFrom(): void;
  sendCopyFail(why: string): void;
}

/** A `COPY … FROM STDIN` that is under way. Nothing else may run on its session. */
export interface CopyIn {
  /** Takes whole messages of the protocol, as they came from another server. Resolves when more may come. */
  write(messages: Uint8Array): Promise<void> | undefined;
  /** Rejects as soon as the server has refused something. */
  readonly failed: Promise<never>;
  /** Resolves when the server has taken everything, with the rows it counted. */
  finish(): Promise<number>;
  /** Gives it up: the statement fails. */
  abandon(): Promise<void>;
}

/** @throws as `queryRows` */
export async function startCopyIn(session: Session, doing: string, text: string): Promise<CopyIn> {
  const connection = connectionOf(session);
  const ready = Promise.withResolvers<void>();
  const done = Promise.withResolvers<number>();
  class Query extends pg.Query {
    // The driver calls it when the server is ready to take rows; its own would end the copy.
    handleCopyInResponse(): void {
      ready.resolve();
    }
  }
  const onEnd = (error: unknown, result: pg.QueryResult | undefined): void => {
    if (error === null || error === undefined) done.resolve(result?.rowCount ?? 0);
    else done.reject(statementError(error, doing, session.user ?? ''));
  };
  const query = Object.assign(new Query({ text }), { callback: onEnd });
  done.promise.catch(() => undefined);
  session.query(query);
  await Promise.race([ready.promise, done.promise]);
  const failed = done.promise.then(() => new Promise<never>(() => undefined));
  failed.catch(() => undefined);
  return {
    failed,
    write(messages) {
      return connection.stream.write(messages) ? undefined : drained(connection.stream);
    },
    finish() {
      connection.endCopyFrom();
      return done.promise;
    },
    async abandon() {
      connection.sendCopyFail('given up');
      await done.promise.catch(() => undefined);
    },
  };
}

/** Resolves when a stream takes more, or never will: then whoever waits for its statement is told. */
function drained(stream: Duplex): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => {
    stream.off('drain', end);
    stream.off('close', end);
    resolve();
  };
  stream.on('drain', end);
  stream.on('close', end);
  return promise;
}

/**
 * Runs a `COPY … TO STDOUT` and hands its rows on to a copy in another session, as they are: the messages of the two
 * directions are the same. Taking them apart in the driver took more time than everything else.
 *
 * @returns the rows the server counted
 * @source PostgreSQL manual, "Message Formats", CopyData
 */
export async function copyRowsTo(
  session: Session,
  statement: { readonly doing: string; readonly text: string; readonly signal: AbortSignal },
  target: CopyIn,
): Promise<number> {
  const { signal, doing } = statement;
  signal.throwIfAborted();
  const { stream } = connectionOf(session);
  // Between commands the driver's parser holds nothing: what comes goes through ours, and all but rows on to it.
  const parsers = stream.listeners('data') as ((chunk: Buffer) => void)[];
  const splitter = createSplitter({
    onRows: rows => {
      const waiting = target.write(rows);
      if (waiting === undefined) return;
      stream.pause();
      void waiting.then(() => stream.resume());
    },
    onOther: bytes => {
      for (const parse of parsers) parse(bytes);
    },
  });
  const giveUp = (): void => void stream.destroy();
  signal.addEventListener('abort', giveUp, { once: true });
  stream.on('data', splitter);
  for (const parse of parsers) stream.off('data', parse);
  try {
    // Where the target refuses, the rest need not be read.
    const result = await Promise.race([session.query(statement.text), target.failed]);
    return result.rowCount ?? 0;
  } catch (error) {
    signal.throwIfAborted();
    throw statementError(error, doing, session.user ?? '');
  } finally {
    signal.removeEventListener('abort', giveUp);
    for (const parse of parsers) stream.on('data', parse);
    stream.off('data', splitter);
  }
}

const HEADER_BYTES = 5;
const COPY_DATA = 0x64;

/** Tells messages with rows from all others, whatever pieces they come in. */
function createSplitter(handlers: {
  readonly onRows: (bytes: Uint8Array) => void;
  readonly onOther: (bytes: Buffer) => void;
}): (chunk: Buffer) => void {
  const head = Buffer.alloc(HEADER_BYTES);
  let headBytes = 0;
  /** Of the message that is being read. */
  let leftBytes = 0;
  let isRow = false;
  return chunk => {
    let from = 0;
    const hand = (to: number): void => {
      if (to > from) {
        if (isRow) handlers.onRows(chunk.subarray(from, to));
        else handlers.onOther(chunk.subarray(from, to));
      }
      from = to;
    };
    for (let at = 0; at < chunk.length; ) {
      if (leftBytes > 0) {
        const taken = Math.min(leftBytes, chunk.length - at);
        leftBytes -= taken;
        at += taken;
        continue;
      }
      if (headBytes === 0 && chunk.length - at >= HEADER_BYTES) {
        const kind = chunk[at] === COPY_DATA;
        if (kind !== isRow) hand(at);
        isRow = kind;
        leftBytes = chunk.readUInt32BE(at + 1) - 4;
        at += HEADER_BYTES;
        continue;
      }
      // A header that is cut by the end of a piece is put together first.
      hand(at);
      const taken = Math.min(HEADER_BYTES - headBytes, chunk.length - at);
      chunk.copy(head, headBytes, at, at + taken);
      headBytes += taken;
      at += taken;
      from = at;
      if (headBytes < HEADER_BYTES) continue;
      headBytes = 0;
      isRow = head[0] === COPY_DATA;
      leftBytes = head.readUInt32BE(1) - 4;
      const whole = Buffer.from(head);
      if (isRow) handlers.onRows(whole);
      else handlers.onOther(whole);
    }
    hand(chunk.length);
  };
}

function connectionOf(session: Session): DriverConnection {
  return (session as unknown as { readonly connection: DriverConnection }).connection;
}
