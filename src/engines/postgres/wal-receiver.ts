import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { AppError, systemCode } from '../../base/errors.ts';
import { KIB } from '../../base/sizes.ts';
import { statementError } from './connection-errors.ts';
import { createCopyStream } from './copy-stream.ts';
import { formatLsn, parseLsn } from './lsn.ts';
import type { ReplicationConnection } from './replication-connection.ts';

export interface WalStreamRequest {
  /** A physical slot, which holds the log from what was last reported as flushed on. */
  readonly slot: string;
  readonly timeline: number;
  /** Where to begin; the server sends from there on, without a hole, as far as it has flushed. */
  readonly lsn: bigint;
  /** Bytes of the log, in order. They are only valid during the call. What it throws ends the stream. */
  readonly onData: (lsn: bigint, bytes: Uint8Array) => void;
  /** How far the log is written and durable here, whenever the server is told. */
  readonly positions: () => WalPositions;
  /** Where the server has flushed to; null while it says nothing of it. */
  readonly onServerEnd?: (lsn: bigint) => void;
  /**
   * Where one small message comes right after the other, as from many small commits, they are left to gather for so long: each
   * read, written, flushed and answered by itself takes more of a processor than the commits. 0: nothing is left waiting.
   */
  readonly gatherMs?: number;
}

export interface WalPositions {
  readonly written: bigint;
  readonly flushed: bigint;
  /** 0 for a receiver that applies nothing: then `synchronous_commit = remote_apply` would wait for ever. */
  readonly applied: bigint;
}

/** A timeline that ended: the server goes on with the next one from `lsn` on. */
export interface TimelineEnd {
  readonly nextTimeline: number;
  readonly lsn: bigint;
}

export interface WalStream {
  /** Tells the server how far its log is written and durable here. */
  report(): void;
  /** Milliseconds since anything came from the server. */
  silentMs(): number;
  /** Asks for a sign of life. */
  ping(): void;
  /**
   * Resolves when the server says that the timeline ended; rejects with everything else that ends a stream:
   * LOG_NOT_FOUND the server has removed the log at this place; LOCKED the slot is in use; DATABASE_UNREACHABLE.
   */
  readonly ended: Promise<TimelineEnd>;
  /** Ends the stream and the session. */
  stop(): Promise<void>;
}

/** Between the epochs of Unix and PostgreSQL. */
const EPOCH_MS = 946_684_800_000;
/** Of a message that tells the server how far its log is here. */
const STATUS_BYTES = 39;
const GOODBYE_MS = 1000;
/** What is read at once from here on is no small message, and there may be more. */
const MUCH_BYTES = 16 * KIB;

/** What of the driver's connection is needed here, and not part of its types. */
interface CopyConnection {
  readonly stream: Duplex;
  on(event: 'copyDone', listener: () => void): void;
  off(event: 'copyDone', listener: () => void): void;
  endCopyFrom(): void;
}

/**
 * Starts to receive the log. What arrives is told at once; every answer to the server is the caller's: with `report`.
 *
 * @source PostgreSQL manual, "Streaming Replication Protocol", START_REPLICATION; libpq/walreceiver of PostgreSQL itself
 */
export function startWalStream(replication: ReplicationConnection, request: WalStreamRequest): WalStream {
  const { client, received } = replication;
  const { gatherMs = 0 } = request;
  const connection = (client as unknown as { readonly connection: CopyConnection }).connection;
  let position = request.lsn;
  let heardMs = performance.now();
  let failure: unknown = null;
  // Past the driver, which copies it once more: there is one for each commit.
  const send = (pleaseAnswer: boolean): void => {
    connection.stream.write(statusMessage(request.positions(), pleaseAnswer));
  };
  const fail = (work: () => void): void => {
    if (failure !== null) return;
    try {
      work();
    } catch (error) {
      failure = error;
      connection.stream.destroy();
    }
  };
  const receive = createCopyStream({
    onLog: (lsn, bytes) =>
      fail(() => {
        if (lsn !== position) throw outOfOrder(lsn, position);
        request.onData(lsn, bytes);
        position += BigInt(bytes.length);
      }),
    onServerEnd: (lsn, wantsAnswer) =>
      fail(() => {
        request.onServerEnd?.(lsn);
        if (wantsAnswer) send(false);
      }),
    onMessage: message => forward(message),
  });
  const onChunk = (chunk: Buffer): void => {
    const now = performance.now();
    // Through TLS it comes in pieces that tell nothing of how much there is.
    if (now - heardMs < gatherMs && chunk.length < MUCH_BYTES && !(connection.stream instanceof TLSSocket)) {
      connection.stream.pause();
      setTimeout(() => connection.stream.resume(), gatherMs);
    }
    heardMs = now;
    fail(() => receive(chunk));
  };
  // Between commands the driver's parser holds nothing: what comes goes through ours first, and all but the log on to it.
  const parsers = connection.stream.listeners('data') as ((chunk: Buffer) => void)[];
  const forward = (message: Buffer): void => {
    for (const parse of parsers) parse(message);
  };
  connection.stream.on('data', onChunk);
  for (const parse of parsers) connection.stream.off('data', parse);
  // Nothing of it is kept: of other messages than the log, what is handed on is a copy.
  received.isLent = true;
  // The timeline is at its end: the server waits until this is said here too, then it names the next one.
  const onCopyDone = (): void => connection.endCopyFrom();
  connection.on('copyDone', onCopyDone);
  const text = `START_REPLICATION SLOT ${request.slot} PHYSICAL ${formatLsn(request.lsn)} TIMELINE ${request.timeline}`;
  const ended = client
    .query(text)
    .then(results => timelineEnd(results))
    .catch((error: unknown) => {
      throw failure ?? streamError(error, request, client.user ?? '');
    })
    .finally(() => {
      received.isLent = false;
      for (const parse of parsers) connection.stream.on('data', parse);
      connection.stream.off('data', onChunk);
      connection.off('copyDone', onCopyDone);
    });
  // It is awaited by whoever reads the stream, perhaps later than it ends.
  ended.catch(() => undefined);
  return {
    report() {
      if (connection.stream.writable) send(false);
    },
    silentMs: () => performance.now() - heardMs,
    ping() {
      if (connection.stream.writable) send(true);
    },
    ended,
    async stop() {
      if (connection.stream.writable) connection.endCopyFrom();
      const enough = setTimeout(() => connection.stream.destroy(), GOODBYE_MS);
      await ended.catch(() => undefined);
      clearTimeout(enough);
      await client.end().catch(() => undefined);
    },
  };
}

/** CopyData with `r` in it: how far it is written, flushed and applied; the time; whether an answer is wanted. */
function statusMessage(positions: WalPositions, pleaseAnswer: boolean): Uint8Array {
  const bytes = new Uint8Array(STATUS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x64);
  // The length counts itself, but not the type before it.
  view.setUint32(1, STATUS_BYTES - 1);
  view.setUint8(5, 0x72);
  view.setBigUint64(6, positions.written);
  view.setBigUint64(14, positions.flushed);
  view.setBigUint64(22, positions.applied);
  view.setBigInt64(30, BigInt((Date.now() - EPOCH_MS) * 1000));
  view.setUint8(38, pleaseAnswer ? 1 : 0);
  return bytes;
}

/** The server ends a stream with a row that names the next timeline, or without one when it shuts down. */
function timelineEnd(results: unknown): TimelineEnd {
  for (const result of Array.isArray(results) ? results : [results]) {
    const row = (result as { rows?: readonly Record<string, unknown>[] }).rows?.[0];
    if (row?.['next_tli'] !== undefined)
      return { nextTimeline: Number(row['next_tli']), lsn: parseLsn(String(row['next_tli_startpos'])) };
  }
  throw new AppError('DATABASE_UNREACHABLE', 'the server ended the stream: it shuts down', {
    hint: 'Streaming goes on when it is back.',
  });
}

function outOfOrder(found: bigint, expected: bigint): AppError {
  return new AppError(
    'DATABASE_FAILED',
    `unable to receive the log: it goes on at ${formatLsn(found)} instead of ${formatLsn(expected)}`,
  );
}

function streamError(error: unknown, request: WalStreamRequest, user: string): AppError {
  if (error instanceof AppError) return error;
  const state = systemCode(error);
  const message = error instanceof Error ? error.message : String(error);
  const at = formatLsn(request.lsn);
  const options = { cause: error, details: { sqlState: state, lsn: at, timeline: request.timeline } };
  // undefined_file: the segment was removed or recycled. object_not_in_prerequisite_state: the slot was invalidated.
  if (
    state === '58P01' ||
    (state === '55000' && /slot|removed/.test(message)) ||
    /has already been removed/.test(message)
  ) {
    return new AppError(
      'LOG_NOT_FOUND',
      `unable to receive the log from ${at} on: the server no longer has it (${message})`,
      options,
    );
  }
  if (state === '55006') {
    return new AppError(
      'LOCKED',
      `unable to receive the log: replication slot '${request.slot}' is in use (${message})`,
      {
        ...options,
        hint: 'Another agent streams from this server, here or on another machine: stop it, or give each its own `slot` in the configuration.',
      },
    );
  }
  return statementError(error, `receive the log from ${at} on`, user);
}
