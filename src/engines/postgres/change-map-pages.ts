/** A block of a set of {@link PageSet}: pages of 32 successive numbers share an entry. */
const GROUP_BITS = 5;
const GROUP_PAGES = 1 << GROUP_BITS;
/** Groups of one fork: block numbers have 32 bits. */
const GROUPS = 2 ** (32 - GROUP_BITS);
const FIRST_CAPACITY = 1024;

/**
 * A set of pages, each with one bit that its first mention decides. A hash table in four arrays: a page costs from half a
 * byte (neighbours) to 24 (alone), and there is no object for it.
 */
export class PageSet {
  #capacity = FIRST_CAPACITY;
  /** The fork, plus one: 0 is a free entry. */
  #forks = new Uint32Array(FIRST_CAPACITY);
  #groups = new Uint32Array(FIRST_CAPACITY);
  #present = new Uint32Array(FIRST_CAPACITY);
  #marked = new Uint32Array(FIRST_CAPACITY);
  #used = 0;
  #last = 0;
  #size = 0;

  /** How many pages are in it. */
  get size(): number {
    return this.#size;
  }

  /** Adds page `block` of fork number `fork`. `mark`, 0 or 1, counts when it was not in the set. */
  add(fork: number, block: number, mark: number): void {
    const group = block >>> GROUP_BITS;
    let entry = this.#last;
    if (this.#groups[entry] !== group || this.#forks[entry] !== fork + 1) {
      entry = this.#find(fork + 1, group);
      this.#last = entry;
    }
    const bit = 1 << (block & (GROUP_PAGES - 1));
    if (this.#present[entry]! & bit) return;
    this.#present[entry] = this.#present[entry]! | bit;
    if (mark) this.#marked[entry] = this.#marked[entry]! | bit;
    this.#size += 1;
  }

  /** Visits every fork, in ascending order of its number, with its blocks in ascending order and their marks. */
  forEachFork(visit: (fork: number, blocks: Uint32Array, marks: Uint8Array) => void): void {
    const keys = new Float64Array(this.#used);
    let count = 0;
    for (let entry = 0; entry < this.#capacity; entry += 1) {
      if (this.#forks[entry] !== 0) keys[count++] = this.#forks[entry]! * GROUPS + this.#groups[entry]!;
    }
    keys.sort();
    const forkAt = (index: number): number => Math.floor(keys[index]! / GROUPS);
    for (let start = 0, end = 0; start < count; start = end) {
      const fork = forkAt(start);
      while (end < count && forkAt(end) === fork) end += 1;
      this.#visitFork(keys.subarray(start, end), fork, visit);
    }
  }

  #visitFork(
    keys: Float64Array,
    fork: number,
    visit: (fork: number, blocks: Uint32Array, marks: Uint8Array) => void,
  ): void {
    const blocks = new Uint32Array(keys.length * GROUP_PAGES);
    const marks = new Uint8Array(blocks.length);
    let count = 0;
    for (const key of keys) {
      const group = key - fork * GROUPS;
      const entry = this.#find(fork, group);
      const present = this.#present[entry]!;
      const marked = this.#marked[entry]!;
      for (let bit = 0; bit < GROUP_PAGES; bit += 1) {
        if (!((present >>> bit) & 1)) continue;
        blocks[count] = group * GROUP_PAGES + bit;
        marks[count] = (marked >>> bit) & 1;
        count += 1;
      }
    }
    visit(fork - 1, blocks.slice(0, count), marks.slice(0, count));
  }

  #find(fork: number, group: number): number {
    const mask = this.#capacity - 1;
    let hash = Math.imul(fork, 0x9e3779b1) ^ Math.imul(group, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let entry = hash & mask; ; entry = (entry + 1) & mask) {
      if (this.#forks[entry] === 0) {
        if (this.#used * 2 >= this.#capacity) {
          this.#grow();
          return this.#find(fork, group);
        }
        this.#forks[entry] = fork;
        this.#groups[entry] = group;
        this.#used += 1;
        return entry;
      }
      if (this.#groups[entry] === group && this.#forks[entry] === fork) return entry;
    }
  }

  #grow(): void {
    const old = { forks: this.#forks, groups: this.#groups, present: this.#present, marked: this.#marked };
    this.#capacity *= 2;
    this.#forks = new Uint32Array(this.#capacity);
    this.#groups = new Uint32Array(this.#capacity);
    this.#present = new Uint32Array(this.#capacity);
    this.#marked = new Uint32Array(this.#capacity);
    this.#used = 0;
    for (let from = 0; from < old.forks.length; from += 1) {
      if (old.forks[from] === 0) continue;
      const entry = this.#find(old.forks[from]!, old.groups[from]!);
      this.#present[entry] = old.present[from]!;
      this.#marked[entry] = old.marked[from]!;
    }
  }
}
