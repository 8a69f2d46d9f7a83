import { closeSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { AppError, fileError } from '../../base/errors.ts';
import { openDirectWriter } from './direct-writer.ts';

/**
 * Files of pages that a safety copy keeps: sections, one after the other, each a header of 32 bytes, a path and the bytes
 * that were in that file at an offset.
 *
 * | offset | size | header |
 * |---|---|---|
 * | 0 | 8 | `AISHKEPT` |
 * | 8 | 8 | offset in the file, u64 |
 * | 16 | 4 | length of the bytes, u32 |
 * | 20 | 4 | length of the path in UTF-8, u32 |
 * | 24 | 4 | CRC-32 of path and bytes, u32 |
 * | 28 | 4 | CRC-32 of the 28 bytes before, u32 |
 *
 * The last section has no path and no bytes; its offset is the number of sections before it. A file without it was cut off.
 */
const MAGIC = Buffer.from('AISHKEPT', 'latin1');
const HEADER_BYTES = 32;
const MAX_SECTION_BYTES = 64 * 1024 * 1024;
const MAX_PATH_BYTES = 4096;

export interface KeptWriter {
  add(path: string, offset: number, bytes: Uint8Array): void;
  /** Ends the file; durable when it returns. */
  close(): void;
}

/** Begins a file, anew where there is one. @throws FILE_FAILED DISK_FULL */
export function openKeptWriter(file: string): KeptWriter {
  let sections = 0;
  const writer = openDirectWriter(file);
  return {
    add(path, offset, bytes) {
      const name = Buffer.from(path, 'utf8');
      const crc = crc32(bytes, crc32(name));
      writer.add(headerOf({ offset, bytes: bytes.length, pathBytes: name.length, crc }));
      writer.add(name);
      writer.add(bytes);
      sections += 1;
    },
    close() {
      writer.add(headerOf({ offset: sections, bytes: 0, pathBytes: 0, crc: 0 }));
      writer.close();
    },
  };
}

export interface KeptSection {
  readonly path: string;
  readonly offset: number;
  /** Valid until the next section is asked for. */
  readonly bytes: Uint8Array;
}

/** Reads such a file from its start to its end. @throws CORRUPT where it is damaged or cut off */
export function* readKept(file: string): Generator<KeptSection, void, undefined> {
  const damaged = (why: string): AppError =>
    new AppError('CORRUPT', `unable to read '${file}' of the safety copy: ${why}`, {
      hint: 'Restore the state before the rewind from the repository instead: `aishell backup restore --latest --full --timeline N`.',
    });
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch (error) {
    throw fileError('read', file, error);
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    let body = Buffer.alloc(0);
    const read = (into: Uint8Array, length: number): void => {
      for (let done = 0; done < length; ) {
        const got = readSync(handle, into, done, length - done, null);
        if (got === 0) throw damaged('it is cut off');
        done += got;
      }
    };
    for (let sections = 0; ; sections += 1) {
      read(header, HEADER_BYTES);
      if (!header.subarray(0, 8).equals(MAGIC) || crc32(header.subarray(0, 28)) !== header.readUInt32LE(28))
        throw damaged('a header of it is damaged');
      const offset = Number(header.readBigUInt64LE(8));
      const [length, pathBytes] = [header.readUInt32LE(16), header.readUInt32LE(20)];
      if (pathBytes === 0) {
        if (offset !== sections) throw damaged('parts of it are missing');
        return;
      }
      if (length > MAX_SECTION_BYTES || pathBytes > MAX_PATH_BYTES)
        throw damaged('a header of it is damaged');
      if (body.length < pathBytes + length) body = Buffer.alloc(pathBytes + length);
      read(body, pathBytes + length);
      const content = body.subarray(0, pathBytes + length);
      if (crc32(content) !== header.readUInt32LE(24)) throw damaged('its checksum is wrong');
      yield {
        path: content.toString('utf8', 0, pathBytes),
        offset,
        bytes: content.subarray(pathBytes),
      };
    }
  } finally {
    closeSync(handle);
  }
}

function headerOf(section: {
  readonly offset: number;
  readonly bytes: number;
  readonly pathBytes: number;
  readonly crc: number;
}): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeBigUInt64LE(BigInt(section.offset), 8);
  header.writeUInt32LE(section.bytes, 16);
  header.writeUInt32LE(section.pathBytes, 20);
  header.writeUInt32LE(section.crc, 24);
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28);
  return header;
}
