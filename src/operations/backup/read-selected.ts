import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import { matchesHash, type StoredFrame } from '../../repository/pack-writer.ts';
import type { ReadTask } from './backup-protocol.ts';
import {
  chosenByPosition,
  chosenByRanges,
  collectPages,
  type PageSelection,
  type PageWindow,
  windowsOf,
} from './page-selection.ts';
import { eachRange, joinRanges, type Ranges } from './ranges.ts';

/** How a worker reads the file of a task, and where it puts what it has read. */
export interface SelectionIo {
  readonly buffer: Uint8Array;
  /** Where what is to be stored is put together: as much as a frame takes. */
  readonly body: Uint8Array;
  readonly blockSize: number;
  /** Reads a part of the file into the buffer and checks its pages. Fewer bytes than asked for: the file ends there. */
  read(offset: number, length: number): { readonly got: number; readonly damaged: readonly DamagedPage[] };
  store(body: Uint8Array, ranges: Ranges): Promise<StoredFrame>;
}

/** A frame with ranges of a file. */
interface SelectedFrame {
  readonly frame: StoredFrame;
  readonly ranges: Ranges;
}

/** What was stored of a task's range. */
export interface SelectedPages {
  readonly frames: readonly SelectedFrame[];
  readonly damaged: readonly DamagedPage[];
  /** Where the file was found to end before the end of what was asked for; null: it did not. */
  readonly endsAt: number | null;
}

/** Reads what is needed to tell what of a file changed, and stores that. */
export async function readSelected(
  task: ReadTask,
  selection: PageSelection,
  io: SelectionIo,
): Promise<SelectedPages> {
  const frames: SelectedFrame[] = [];
  const store = async (body: Uint8Array, ranges: Ranges): Promise<void> => {
    frames.push({ frame: await io.store(body, ranges), ranges });
  };
  const found =
    selection.kind === 'content'
      ? await readByContent(task, selection.hashes, { ...io, store })
      : await readPages(task, selection, { ...io, store });
  return { frames, ...found };
}

type Io = Omit<SelectionIo, 'store'> & {
  readonly store: (body: Uint8Array, ranges: Ranges) => Promise<void>;
};
type Found = Omit<SelectedPages, 'frames'>;

async function readPages(
  task: ReadTask,
  selection: Exclude<PageSelection, { kind: 'content' }>,
  io: Io,
): Promise<Found> {
  const firstBlock = task.firstBlock ?? 0;
  const damaged: DamagedPage[] = [];
  const pages = collectPages(io.body, io.store);
  const cursor = { index: 0 };
  let endsAt: number | null = null;
  for (const { offset, length } of windowsOf(selection, task)) {
    const found = io.read(offset, length);
    const window: PageWindow = { buffer: io.buffer, length: found.got, offset };
    const block = firstBlock + (offset - task.offset) / io.blockSize;
    const bad = found.damaged.map(each => (each.block - block) * io.blockSize);
    let chosen = [...chosenByRanges(window, selection.ranges, cursor)];
    if (selection.kind === 'since') {
      const position = { sinceLsn: selection.sinceLsn, blockSize: io.blockSize, firstBlock: block };
      // What a damaged page says of itself is worth nothing.
      const suspect = bad.map(at => [at, io.blockSize] as const);
      chosen = joined([...chosen, ...suspect, ...chosenByPosition(window, position)]);
    }
    const isChosen = (at: number): boolean => chosen.some(([from, size]) => from <= at && at < from + size);
    damaged.push(...found.damaged.filter((_, index) => isChosen(bad[index]!)));
    await pages.add(window, chosen);
    if (found.got < length) {
      endsAt = offset + found.got;
      break;
    }
  }
  await pages.flush();
  return { damaged, endsAt };
}

type Part = readonly [at: number, length: number];

function joined(parts: readonly Part[]): Part[] {
  return [...eachRange(joinRanges(parts))];
}

async function readByContent(task: ReadTask, hashes: readonly (string | null)[], io: Io): Promise<Found> {
  const damaged: DamagedPage[] = [];
  for (let at = 0; at < task.length; at += FRAME_BODY_BYTES) {
    const offset = task.offset + at;
    const length = Math.min(FRAME_BODY_BYTES, task.length - at);
    const found = io.read(offset, length);
    damaged.push(...found.damaged);
    const hash = hashes[at / FRAME_BODY_BYTES] ?? null;
    const body = io.buffer.subarray(0, found.got);
    // An empty hash is none, and would match anything.
    const isSame = found.got === length && hash !== null && hash !== '' && matchesHash(body, hash);
    if (!isSame && found.got > 0) await io.store(body, [offset, found.got]);
    if (found.got < length) return { damaged, endsAt: offset + found.got };
  }
  return { damaged, endsAt: null };
}
