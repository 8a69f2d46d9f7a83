import { chunkListOf } from '../../src/repository/chunk-list.ts';
import type { ManifestLine } from '../../src/repository/manifest.ts';
import type { PackedLine } from '../../src/repository/manifest-line.ts';

/** A line as the writer of manifests takes it. */
export function packedLine(line: ManifestLine): PackedLine {
  if (line.t === 'dir') return line;
  const { c, ...rest } = line;
  const chunks = chunkListOf(c);
  if (chunks === null) throw new Error(`${line.p} has chunks that are none`);
  return { ...rest, chunks };
}
