import { closeSync, constants, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { fileError, systemCode } from '../../base/errors.ts';
import { writeFully } from '../restore/write-fully.ts';

const BUFFER_BYTES = 1024 * 1024;
const WASM_PAGE_BYTES = 64 * 1024;
/** What the length of a direct write must be a multiple of: a sector of any disk. */
const SECTOR_BYTES = 4096;

/** Writes a file from its start to its end, which nobody is going to read soon. */
export interface DirectWriter {
  add(bytes: Uint8Array): void;
  /** Durable when it returns. */
  close(): void;
}

/**
 * Begins a file, anew where there is one, and writes it past the page cache where the file system can do that: what is written
 * takes no memory from what is needed, and is on the disk when it is closed, instead of only then being begun with.
 *
 * @throws FILE_FAILED DISK_FULL
 */
export function openDirectWriter(path: string): DirectWriter {
  // Such memory starts on a page, which a direct write needs.
  const memory = new WebAssembly.Memory({ initial: BUFFER_BYTES / WASM_PAGE_BYTES });
  const buffer = new Uint8Array(memory.buffer);
  let { file, isDirect } = open(path);
  let filled = 0;
  let position = 0;
  const write = (length: number): void => {
    let done = 0;
    if (isDirect) {
      try {
        done = writeSync(file, buffer, 0, length, position);
      } catch (error) {
        if (!isRefusal(error)) throw fileError('write', path, error);
      }
      if (done < length) goOnThroughCache();
    }
    if (done < length) writeFully(file, buffer.subarray(done, length), { position: position + done, path });
    position += length;
    filled = 0;
  };
  const goOnThroughCache = (): void => {
    closeSync(file);
    isDirect = false;
    try {
      file = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
    } catch (error) {
      throw fileError('write', path, error);
    }
  };
  return {
    add(bytes) {
      for (let done = 0; done < bytes.length; ) {
        const length = Math.min(bytes.length - done, BUFFER_BYTES - filled);
        buffer.set(bytes.subarray(done, done + length), filled);
        filled += length;
        done += length;
        if (filled === BUFFER_BYTES) write(BUFFER_BYTES);
      }
    },
    close() {
      const end = position + filled;
      if (filled > 0) write(Math.ceil(filled / SECTOR_BYTES) * SECTOR_BYTES);
      try {
        ftruncateSync(file, end);
        fsyncSync(file);
        closeSync(file);
      } catch (error) {
        throw fileError('write', path, error);
      }
    },
  };
}

/** What file systems say that do not write directly. */
function isRefusal(error: unknown): boolean {
  return ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP'].includes(systemCode(error));
}

function open(path: string): { file: number; isDirect: boolean } {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
  try {
    try {
      return { file: openSync(path, flags | constants.O_DIRECT, 0o600), isDirect: true };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { file: openSync(path, flags, 0o600), isDirect: false };
    }
  } catch (error) {
    throw fileError('create', path, error);
  }
}

/** Node's types know WebAssembly as a namespace of types only. */
declare const WebAssembly: {
  readonly Memory: new (limits: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};
