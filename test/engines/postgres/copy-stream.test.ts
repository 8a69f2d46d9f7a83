import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createCopyStream } from '../../../src/engines/postgres/copy-stream.ts';

type Message =
  | { readonly kind: 'log'; readonly lsn: bigint; readonly end: bigint; readonly bytes: Uint8Array }
  | { readonly kind: 'keepalive'; readonly end: bigint; readonly wantsAnswer: boolean }
  | { readonly kind: 'other'; readonly type: number; readonly bytes: Uint8Array };

function encode(message: Message): Buffer {
  const wrap = (type: number, body: Uint8Array): Buffer => {
    const head = Buffer.alloc(5);
    head[0] = type;
    head.writeUInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  if (message.kind === 'other') return wrap(message.type, message.bytes);
  if (message.kind === 'keepalive') {
    const body = Buffer.alloc(18);
    body[0] = 0x6b;
    body.writeBigUInt64BE(message.end, 1);
    body[17] = message.wantsAnswer ? 1 : 0;
    return wrap(0x64, body);
  }
  const body = Buffer.alloc(25);
  body[0] = 0x77;
  body.writeBigUInt64BE(message.lsn, 1);
  body.writeBigUInt64BE(message.end, 9);
  return wrap(0x64, Buffer.concat([body, message.bytes]));
}

const position = fc.bigInt({ min: 0n, max: 2n ** 60n });
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    kind: fc.constant('log' as const),
    lsn: position,
    end: position,
    bytes: fc.uint8Array({ maxLength: 300 }),
  }),
  fc.record({ kind: fc.constant('keepalive' as const), end: position, wantsAnswer: fc.boolean() }),
  fc.record({
    kind: fc.constant('other' as const),
    type: fc.constantFrom(0x63, 0x43, 0x45, 0x5a, 0x54),
    bytes: fc.uint8Array({ maxLength: 60 }),
  }),
);

test('any messages, cut anywhere - log, positions and other messages come out as they went in', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 40 })),
      (all, cuts) => {
        const found: unknown[] = [];
        const log: { lsn: bigint; bytes: number[] }[] = [];
        const receive = createCopyStream({
          onLog: (lsn, bytes) => {
            const last = log.at(-1);
            if (last !== undefined && last.lsn + BigInt(last.bytes.length) === lsn) last.bytes.push(...bytes);
            else log.push({ lsn, bytes: [...bytes] });
          },
          onServerEnd: (lsn, wantsAnswer) => {
            found.push({ log: log.splice(0), lsn, wantsAnswer });
          },
          onMessage: other => found.push([...other]),
        });
        const stream = Buffer.concat(all.map(encode));
        let at = 0;
        for (let turn = 0; at < stream.length; turn += 1) {
          const length = cuts[turn % Math.max(1, cuts.length)] ?? stream.length;
          // A buffer of its own that is gone afterwards: nothing may be kept of it.
          const chunk = Buffer.from(stream.subarray(at, at + length));
          receive(chunk);
          chunk.fill(0xee);
          at += length;
        }
        const expected = all.map(each => {
          if (each.kind === 'other') return [...encode(each)];
          if (each.kind === 'keepalive') return { log: [], lsn: each.end, wantsAnswer: each.wantsAnswer };
          const bytes = [...each.bytes];
          return {
            log: bytes.length === 0 ? [] : [{ lsn: each.lsn, bytes }],
            lsn: each.end,
            wantsAnswer: false,
          };
        });
        expect(found).toEqual(expected);
      },
    ),
    { numRuns: 500 },
  );
});

test('copied data that is no log - refused as a bug', () => {
  const receive = createCopyStream({ onLog: () => 0, onServerEnd: () => 0, onMessage: () => 0 });
  expect(() => receive(Buffer.from([0x64, 0, 0, 0, 6, 0x78, 0]))).toThrow(/no part of its log/);
});
