/**
 * Gives the memory below `bytes` back at once instead of when the garbage collector comes by. Only for what a call made for
 * its caller alone (a cipher's output, a decompressor's, a storage's answer), and only when nothing looks at it again: it is
 * empty afterwards, and so is every view of the same memory.
 *
 * So a megabyte goes round in the processor's cache, where otherwise hundreds are touched for the first time each
 * (measured: a thread that opens frames held 150 MiB and now holds 70, and the kernel clears no pages for it).
 */
export function releaseMemory(bytes: Uint8Array): void {
  const { buffer } = bytes;
  // Smaller ones may be parts of Node's pool, which others hold parts of too; it is a few bytes larger than it says.
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= 2 * Buffer.poolSize) buffer.transfer(0);
}
