import { abortable } from '../base/abort.ts';
import { AppError } from '../base/errors.ts';
import type { BodyStream } from './storage.ts';

/**
 * The chunks of a body, for adapters. Ends normally only after exactly `sizeBytes` bytes; an aborted signal ends it even
 * while the body's source hangs.
 *
 * @throws FILE_FAILED when the body is shorter or longer than it says: its source changed while it was read
 */
export async function* readBody(
  key: string,
  body: Uint8Array | BodyStream,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) {
    if (body.length > 0) yield body;
    return;
  }
  const iterator = body.open()[Symbol.asyncIterator]();
  let doneBytes = 0;
  let state: 'open' | 'waiting' | 'ended' = 'open';
  try {
    while (true) {
      state = 'waiting';
      const next = await abortable(iterator.next(), signal);
      state = next.done === true ? 'ended' : 'open';
      if (next.done === true) break;
      doneBytes += next.value.length;
      if (doneBytes > body.sizeBytes) throw wrongSize(key, `more than the ${body.sizeBytes} bytes announced`);
      if (next.value.length > 0) yield next.value;
    }
    if (doneBytes < body.sizeBytes)
      throw wrongSize(key, `${doneBytes} of the ${body.sizeBytes} bytes announced`);
  } finally {
    // A source that hangs in next() would hang in return() too: it is told, but not waited for.
    if (state === 'waiting') iterator.return?.().catch(() => undefined);
    else if (state === 'open') await iterator.return?.();
  }
}

function wrongSize(key: string, found: string): AppError {
  return new AppError('FILE_FAILED', `unable to store '${key}': its source gave ${found}`, {
    hint: 'The source changed while it was read. Run the same command again.',
  });
}
