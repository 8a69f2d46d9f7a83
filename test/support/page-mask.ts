/**
 * What may differ in two pages that say the same: hints, which no record need tell, and bytes that nothing uses.
 * @source access/common/bufmask.c; heap_mask, btree_mask, hash_mask, gist_mask, gin_mask, brin_mask, seq_mask
 */
export function maskPage(bytes: Uint8Array): Buffer {
  const page = Buffer.from(bytes);
  const [lower, upper, special] = [12, 14, 16].map(at => page.readUInt16LE(at)) as [number, number, number];
  if (upper === 0) return page;
  // Its checksum; whether it has free line pointers or is full; what might be pruned.
  page.writeUInt16LE(0, 8);
  page.writeUInt16LE(page.readUInt16LE(10) & ~0x03, 10);
  page.writeUInt32LE(0, 20);
  if (lower >= 24 && lower <= upper) page.fill(0, lower, upper);
  const specialBytes = page.length - special;
  if (specialBytes === 0) maskHeap(page, lower);
  else maskIndex(page, lower, special);
  return page;
}

const LP_NORMAL = 1;

function maskHeap(page: Buffer, lower: number): void {
  for (let at = 24; at + 4 <= lower; at += 4) {
    const pointer = page.readUInt32LE(at);
    const [offset, flags, length] = [pointer & 0x7fff, (pointer >>> 15) & 3, pointer >>> 17];
    if (flags !== LP_NORMAL || length === 0) continue;
    const infomask = page.readUInt16LE(offset + 20);
    // Whether its transactions have ended, and the number of the command within them.
    const isFrozen = (infomask & 0x0300) === 0x0300;
    page.writeUInt16LE(infomask & ~((isFrozen ? 0x0c00 : 0x0f00) | 0x0020), offset + 20);
    page.writeUInt32LE(0, offset + 8);
    page.fill(0, offset + length, offset + ((length + 7) & ~7));
  }
}

function maskIndex(page: Buffer, lower: number, special: number): void {
  const kind = page.readUInt16LE(page.length - 2);
  const isHash = kind === 0xff80;
  const isGist = kind === 0xff81;
  const isBtree = page.length - special === 16 && !isHash && !isGist;
  if (isBtree || isHash || isGist)
    for (let at = 24; at + 4 <= lower; at += 4)
      // Known to be dead.
      if (((page.readUInt32LE(at) >>> 15) & 3) === 3)
        page.writeUInt32LE((page.readUInt32LE(at) & ~0x18000) | (1 << 15), at);
  if (page.length - special === 8) maskSmallSpecial(page, special);
  if (isBtree) {
    // Garbage, and the end of a split that a vacuum looks for.
    page.writeUInt16LE(page.readUInt16LE(special + 12) & ~0x60, special + 12);
    page.writeUInt16LE(0, special + 14);
  }
  if (isHash) page.writeUInt16LE(page.readUInt16LE(special + 12) & ~0x80, special + 12);
  if (isGist) page.writeUInt16LE(page.readUInt16LE(special + 12) & ~0x10, special + 12);
}

const GIN_DELETED = 0x04;
const BRIN_EVACUATE_PAGE = 0x01;
const SEQUENCE_MAGIC = 0x1717;

/** Pages of GIN and BRIN indexes, and of sequences. */
function maskSmallSpecial(page: Buffer, special: number): void {
  if (page.readUInt16LE(special + 6) >>> 4 === 0xf09)
    page.writeUInt16LE(page.readUInt16LE(special + 4) & ~BRIN_EVACUATE_PAGE, special + 4);
  else if (page.readUInt32LE(special) === SEQUENCE_MAGIC) maskSequence(page);
  // A page of the pending list that was taken out: redo empties it, who took it out has left its content.
  else if (page.readUInt16LE(special + 6) === GIN_DELETED) page.fill(0, 12, 16).fill(0, 24, special + 6);
}

/**
 * Its last value and how many of the logged ones are left: the log tells some numbers ahead. The page has the very ones that were given
 * out, as the first number after a checkpoint is always logged. @source commands/sequence.c, nextval_internal
 */
function maskSequence(page: Buffer): void {
  const tuple = page.readUInt32LE(24) & 0x7fff;
  const data = tuple + page.readUInt8(tuple + 22);
  page.fill(0, data, data + 16);
}
