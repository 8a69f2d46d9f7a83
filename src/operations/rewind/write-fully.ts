import { writeSync } from 'node:fs';
import { fileError } from '../../base/errors.ts';

/** Writes all of `bytes`; a system may take less at once. @throws FILE_FAILED, DISK_FULL */
export function writeFully(
  file: number,
  bytes: Uint8Array,
  to: { readonly position: number | null; readonly path: string },
): void {
  try {
    for (let done = 0; done < bytes.length; ) {
      const position = to.position === null ? null : to.position + done;
      done += writeSync(file, bytes, done, bytes.length - done, position);
    }
  } catch (error) {
    throw fileError('write', to.path, error);
  }
}
