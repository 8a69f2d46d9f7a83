import type { Socket } from 'node:net';
import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { connect, queryRow } from './connection.ts';
import { statementError } from './connection-errors.ts';
import type { ConnectionSettings } from './connection-target.ts';
import { KeptBuffer } from './kept-buffer.ts';
import { parseLsn } from './lsn.ts';

/** A session that speaks the physical replication protocol. Only one thing runs on it at a time. */
export interface ReplicationConnection extends AsyncDisposable {
  readonly client: pg.Client;
  /** What it is read into, unless it is encrypted. */
  readonly received: KeptBuffer;
  identify(): Promise<SystemIdentity>;
  /** Bytes; the same for a whole database system. */
  segmentSize(): Promise<number>;
  /** A timeline's history file, as the server has it. @throws DATABASE_FAILED when it has none */
  timelineHistory(timeline: number): Promise<{ readonly name: string; readonly content: string }>;
}

export interface SystemIdentity {
  /** Decimal. */
  readonly systemIdentifier: string;
  /** The one the server writes. */
  readonly timeline: number;
  /** The end of what it has flushed: streaming goes no further for now. */
  readonly flushLsn: bigint;
}

/**
 * Opens a replication session; its user needs the attribute REPLICATION.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED; the signal's reason when cancelled
 * @source PostgreSQL manual, "Streaming Replication Protocol"
 */
export async function openReplication(
  settings: ConnectionSettings,
  options: { readonly applicationName: string; readonly signal?: AbortSignal },
): Promise<ReplicationConnection> {
  const { signal } = options;
  const received = new KeptBuffer();
  const openSocket = (): Socket => received.open();
  const client = await connect(settings, { ...options, replication: 'physical', openSocket });
  const statement = (text: string): { text: string; signal?: AbortSignal } => ({
    text,
    ...(signal === undefined ? {} : { signal }),
  });
  return {
    client,
    received,
    async identify() {
      const row = await queryRow<{ systemid: string; timeline: number; xlogpos: string }>(
        client,
        'identify the server',
        statement('IDENTIFY_SYSTEM'),
      );
      return {
        systemIdentifier: row.systemid,
        timeline: Number(row.timeline),
        flushLsn: parseLsn(row.xlogpos),
      };
    },
    async segmentSize() {
      const row = await queryRow<{ wal_segment_size: string }>(
        client,
        'ask for the size of log segments',
        statement('SHOW wal_segment_size'),
      );
      return parseSegmentSize(row.wal_segment_size);
    },
    async timelineHistory(timeline) {
      const [name, content] = await readHistory(client, timeline);
      if (name !== undefined && content !== undefined) return { name, content };
      throw new AppError('DATABASE_FAILED', `the server has no history of timeline ${timeline}`);
    },
    [Symbol.asyncDispose]: async () => await client.end().catch(() => undefined),
  };
}

/**
 * The content of a history file comes as it is, though older servers call it bytea, whose text form the driver would
 * decode: so nothing is decoded.
 */
async function readHistory(client: pg.Client, timeline: number): Promise<readonly string[]> {
  const asIs = { getTypeParser: () => (value: string) => value };
  try {
    const text = `TIMELINE_HISTORY ${timeline}`;
    const result = await client.query<string[]>({ text, rowMode: 'array', types: asIs });
    return result.rows[0] ?? [];
  } catch (error) {
    throw statementError(error, `read the history of timeline ${timeline}`, client.user ?? '');
  }
}

/** `16MB`, `1GB`. */
function parseSegmentSize(text: string): number {
  const match = /^(\d+)(kB|MB|GB)$/.exec(text);
  const unit = { kB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 }[match?.[2] ?? ''];
  if (match !== null && unit !== undefined) return Number(match[1]) * unit;
  throw new AppError('DATABASE_FAILED', `unable to read the size of log segments '${text}'`);
}
