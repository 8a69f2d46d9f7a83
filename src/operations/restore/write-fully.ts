import { writeSync } from 'node:fs';
import { fileError } from '../../base/errors.ts';

/**
 * How much is written in one call. The page cache takes blocks of memory as large as the write, and those up to 32 KiB are
 * the ones that were given back a moment ago: memory that was long unused is, in a virtual machine, often the host's to find
 * first (measured there: the files of 2.1 GB took 5.4 s in writes of 1 MiB and 3.0 s in these). And a server that then writes
 * single pages over larger blocks pays for them (ext4 on Linux 6.18: 131,072 pages took 0.24 instead of 0.4 s and more).
 * @source Linux, mm/page_alloc.c: lists per processor up to PAGE_ALLOC_COSTLY_ORDER; mm/page_reporting.c
 */
const WRITE_BYTES = 32 * 1024;

/** Writes all of `bytes`; a system may take less at once. @throws FILE_FAILED, DISK_FULL */
export function writeFully(
  file: number,
  bytes: Uint8Array,
  to: { readonly position: number | null; readonly path: string },
): void {
  try {
    for (let done = 0; done < bytes.length; ) {
      const position = to.position === null ? null : to.position + done;
      done += writeSync(file, bytes, done, Math.min(WRITE_BYTES, bytes.length - done), position);
    }
  } catch (error) {
    throw fileError('write', to.path, error);
  }
}
