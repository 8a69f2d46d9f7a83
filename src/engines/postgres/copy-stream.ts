import { assert } from '../../base/errors.ts';

export interface CopyStreamHandlers {
  /** Bytes of the log, as they arrive: not whole messages. They are only valid during the call. */
  readonly onLog: (lsn: bigint, bytes: Uint8Array) => void;
  /** Where the server has flushed to, said with the log or by itself; and whether it wants an answer now. */
  readonly onServerEnd: (lsn: bigint, wantsAnswer: boolean) => void;
  /** Any other message of the protocol, whole. */
  readonly onMessage: (message: Buffer) => void;
}

const HEADER_BYTES = 5;
const COPY_DATA = 0x64;
const LOG = 0x77;
const KEEPALIVE = 0x6b;
/** Type, start of the bytes, end of the server's log, time. */
const LOG_HEADER_BYTES = 25;
/** Type, end of the server's log, time, whether an answer is wanted. */
const KEEPALIVE_BYTES = 18;

/**
 * Takes apart what a server sends while it streams its log, and hands the log on as it comes, without a copy. The driver's
 * own parser first puts messages of up to 128 KiB together, in buffers that it makes anew for each: that was more work
 * than everything else.
 *
 * @source PostgreSQL manual, "Message Formats", CopyData; "Streaming Replication Protocol", XLogData, keepalive
 */
export function createCopyStream(handlers: CopyStreamHandlers): (chunk: Buffer) => void {
  /** The beginning of a message, as far as it has to be known whole. */
  const head = Buffer.alloc(HEADER_BYTES + LOG_HEADER_BYTES);
  let headBytes = 0;
  /** Bytes of the message that are still to come. */
  let leftBytes = 0;
  let other: Buffer[] | null = null;
  let lsn: bigint | null = null;

  /** How much of the message must be there before it is known what to do. */
  const wantedBytes = (): number => {
    if (headBytes < HEADER_BYTES) return HEADER_BYTES;
    if (headBytes === HEADER_BYTES) return HEADER_BYTES + 1;
    return HEADER_BYTES + (head[HEADER_BYTES] === LOG ? LOG_HEADER_BYTES : KEEPALIVE_BYTES);
  };

  /** The head is as long as was wanted: either more of it is, or the message begins to be handed on. */
  const onHead = (): void => {
    if (headBytes === HEADER_BYTES) {
      leftBytes = head.readUInt32BE(1) - 4;
      if (head[0] === COPY_DATA) return;
      other = [Buffer.from(head.subarray(0, HEADER_BYTES))];
      if (leftBytes === 0) endMessage();
      return;
    }
    if (headBytes === HEADER_BYTES + 1) {
      const type = head[HEADER_BYTES];
      assert(type === LOG || type === KEEPALIVE, 'the server sends something that is no part of its log');
      return;
    }
    if (head[HEADER_BYTES] === KEEPALIVE) {
      handlers.onServerEnd(head.readBigUInt64BE(HEADER_BYTES + 1), head[HEADER_BYTES + 17] === 1);
    } else lsn = head.readBigUInt64BE(HEADER_BYTES + 1);
    if (leftBytes === 0) endMessage();
  };

  const endMessage = (): void => {
    const message = other;
    const isLog = lsn !== null;
    headBytes = 0;
    other = null;
    lsn = null;
    if (message !== null) handlers.onMessage(Buffer.concat(message));
    else if (isLog) handlers.onServerEnd(head.readBigUInt64BE(HEADER_BYTES + 9), false);
  };

  return chunk => {
    for (let at = 0; at < chunk.length; ) {
      if (other === null && lsn === null) {
        const taken = Math.min(wantedBytes() - headBytes, chunk.length - at);
        chunk.copy(head, headBytes, at, at + taken);
        if (headBytes >= HEADER_BYTES) leftBytes -= taken;
        headBytes += taken;
        at += taken;
        if (headBytes === HEADER_BYTES || headBytes === HEADER_BYTES + 1 || isHeadWhole(head, headBytes))
          onHead();
        continue;
      }
      const bytes = chunk.subarray(at, at + leftBytes);
      at += bytes.length;
      leftBytes -= bytes.length;
      if (lsn !== null) {
        const begin: bigint = lsn;
        lsn += BigInt(bytes.length);
        handlers.onLog(begin, bytes);
      } else other?.push(Buffer.from(bytes));
      if (leftBytes === 0) endMessage();
    }
  };
}

function isHeadWhole(head: Buffer, headBytes: number): boolean {
  const wanted = head[HEADER_BYTES] === LOG ? LOG_HEADER_BYTES : KEEPALIVE_BYTES;
  return headBytes > HEADER_BYTES + 1 && headBytes === HEADER_BYTES + wanted;
}
