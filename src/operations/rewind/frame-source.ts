import { AppError, assert } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import type { Keyring } from '../../crypto/keyring.ts';
import type { FrameCipher } from '../../crypto/sealed-frame.ts';
import type { Chunk } from '../../repository/manifest.ts';
import { matchesHash } from '../../repository/pack-writer.ts';
import { cipherOf, missing, openFrame } from '../../repository/sealed-reader.ts';
import type { Storage } from '../../storage/storage.ts';
import type { PackAddress } from '../restore/restore-protocol.ts';

/** How much is fetched in one request. */
const RUN_BYTES = 4 * 1024 * 1024;
/** How many requests are under way while another's answer is opened. */
const FETCHES_AHEAD = 4;
/** Bytes between two wanted frames that are fetched along: cheaper than another request, on a disk or far away. */
const GAP_BYTES = 256 * 1024;
const CIPHERS_KEPT = 64;

/** Something that is wanted of one frame. */
export interface Wanted {
  readonly chunk: Chunk;
  /** Where in the frame's body it ends. */
  readonly end: number;
}

interface Run<W extends Wanted> {
  readonly pack: number;
  readonly offset: number;
  length: number;
  readonly wanted: W[];
}

export interface FrameSource {
  /**
   * Calls `use` with each frame's body, as far as it is wanted, once for everything that is wanted of it. Frames are taken in
   * the order of the packs, a few in one request, the next ones being fetched meanwhile.
   *
   * @throws CORRUPT STORAGE_UNREACHABLE …
   */
  each<W extends Wanted>(wanted: readonly W[], use: (body: Uint8Array, of: W) => void): Promise<void>;
  /** Bytes fetched so far. */
  readonly fetchedBytes: number;
}

export function frameSource(from: {
  readonly storage: Storage;
  readonly keyring: Keyring;
  readonly packs: readonly PackAddress[];
}): FrameSource {
  const ciphers = new Map<number, FrameCipher>();
  let fetchedBytes = 0;
  const packOf = (pack: number): PackAddress => {
    const address = from.packs[pack];
    assert(address !== undefined, `pack number ${pack} is not in the manifest`);
    return address;
  };
  const cipherOfPack = (pack: number): FrameCipher => {
    const known = ciphers.get(pack);
    if (known !== undefined) return known;
    const { path, id, generation } = packOf(pack);
    const cipher = cipherOf(from.keyring, {
      path,
      kind: 'pack',
      generation,
      objectId: Buffer.from(id, 'hex'),
    });
    if (ciphers.size >= CIPHERS_KEPT) ciphers.clear();
    ciphers.set(pack, cipher);
    return cipher;
  };
  const fetch = async (run: Run<Wanted>): Promise<Uint8Array> => {
    const { path } = packOf(run.pack);
    const bytes = await from.storage.get(path, { offset: run.offset, length: run.length });
    if (bytes === null) throw missing(path, 'a pack of this backup');
    if (bytes.length !== run.length) throw damaged(path, 'it is cut off');
    fetchedBytes += bytes.length;
    return bytes;
  };
  const open = (run: Run<Wanted>, chunk: Chunk, bytes: Uint8Array): Uint8Array => {
    const [, pack, number, offset, stored, raw, , digest] = chunk;
    const { path } = packOf(pack);
    const at = offset - run.offset;
    // Pages that carry checksums have no hash of all of a frame, and are looked at when all is written.
    const upTo = digest === '' ? endOf(run.wanted, number) : raw;
    const body = openFrame(cipherOfPack(pack), { number, raw, upTo, path }, bytes.subarray(at, at + stored));
    if (!matchesHash(body, digest)) throw damaged(path, `frame ${number} is not what the manifest says`);
    return body;
  };
  return {
    get fetchedBytes() {
      return fetchedBytes;
    },
    async each(wanted, use) {
      for await (const { run, bytes } of fetchAhead(runsOf(wanted), fetch)) {
        let opened = null as { readonly number: number; readonly body: Uint8Array } | null;
        for (const one of run.wanted) {
          if (opened?.number !== one.chunk[2]) {
            if (opened !== null) releaseMemory(opened.body);
            opened = { number: one.chunk[2], body: open(run, one.chunk, bytes) };
          }
          use(opened.body, one);
        }
        if (opened !== null) releaseMemory(opened.body);
        releaseMemory(bytes);
      }
    },
  };
}

/** How much of a frame's body is wanted, from its start. */
function endOf(wanted: readonly Wanted[], frame: number): number {
  return wanted.reduce((end, one) => (one.chunk[2] === frame ? Math.max(end, one.end) : end), 0);
}

/**
 * The runs in their order, with their bytes. Of the next ones as much is fetched meanwhile as a long one is: a single frame
 * takes about as long to come as to be opened, and longer where it comes from the disk.
 */
async function* fetchAhead<R extends { readonly length: number }>(
  runs: readonly R[],
  fetch: (run: R) => Promise<Uint8Array>,
): AsyncGenerator<{ readonly run: R; readonly bytes: Uint8Array }, void, undefined> {
  const ahead: { readonly run: R; readonly bytes: Promise<Uint8Array> }[] = [];
  let aheadBytes = 0;
  let next = 0;
  const hasRoom = (run: R): boolean =>
    ahead.length === 0 || (ahead.length < FETCHES_AHEAD && aheadBytes + run.length <= RUN_BYTES);
  const fill = (): void => {
    for (let run = runs[next]; run !== undefined && hasRoom(run); run = runs[next]) {
      const bytes = fetch(run);
      // A failed fetch is thrown where it is awaited; until then it must not count as unhandled.
      bytes.catch(() => undefined);
      ahead.push({ run, bytes });
      aheadBytes += run.length;
      next += 1;
    }
  };
  fill();
  for (let first = ahead.shift(); first !== undefined; first = ahead.shift()) {
    aheadBytes -= first.run.length;
    fill();
    yield { run: first.run, bytes: await first.bytes };
  }
}

/** In the order of the packs; what is wanted of one frame stands together. */
function runsOf<W extends Wanted>(wanted: readonly W[]): Run<W>[] {
  const sorted = wanted.toSorted((a, b) => a.chunk[1] - b.chunk[1] || a.chunk[3] - b.chunk[3]);
  const runs: Run<W>[] = [];
  for (const one of sorted) {
    const [, pack, , offset, stored] = one.chunk;
    const run = runs.at(-1);
    const end = offset + stored;
    if (
      run?.pack === pack &&
      offset - (run.offset + run.length) <= GAP_BYTES &&
      end - run.offset <= RUN_BYTES
    ) {
      run.length = Math.max(run.length, end - run.offset);
      run.wanted.push(one);
    } else {
      runs.push({ pack, offset, length: stored, wanted: [one] });
    }
  }
  return runs;
}

function damaged(path: string, why: string): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path } });
}
