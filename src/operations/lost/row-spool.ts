import { type FileHandle, open } from 'node:fs/promises';
import { fileError } from '../../base/errors.ts';

/** A row as it was at one moment. */
export interface SpooledRow {
  /** Its place in the order of all rows that are exported. */
  readonly index: number;
  /** Of the table's columns: literals of SQL, or plain texts, where null is no value. */
  readonly values: readonly (string | null)[];
  /** All of it as one literal; null where that is not needed. */
  readonly whole: string | null;
}

const FLUSH_CHARACTERS = 1 << 20;

/** Rows in ascending order of their indices, in a file: written once, read once. */
export class RowSpool {
  readonly #file: FileHandle;
  readonly #path: string;
  #buffer: string[] = [];
  #length = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  static async create(path: string): Promise<RowSpool> {
    try {
      return new RowSpool(path, await open(path, 'wx+', 0o600));
    } catch (error) {
      throw fileError('create', path, error);
    }
  }

  async add({ index, values, whole }: SpooledRow): Promise<void> {
    // These two end a line as well where lines are read, and JSON leaves them as they are.
    const text = JSON.stringify([index, values, whole]).replaceAll(/[\u2028\u2029]/g, escaped);
    const line = `${text}\n`;
    this.#buffer.push(line);
    this.#length += line.length;
    if (this.#length >= FLUSH_CHARACTERS) await this.flush();
  }

  async flush(): Promise<void> {
    try {
      await this.#file.appendFile(this.#buffer.join(''));
    } catch (error) {
      throw fileError('write', this.#path, error);
    }
    this.#buffer = [];
    this.#length = 0;
  }

  /** What was added, in order. */
  async *read(): AsyncGenerator<SpooledRow, void, undefined> {
    await this.flush();
    for await (const line of this.#file.readLines({ start: 0, autoClose: false })) {
      const [index, values, whole] = JSON.parse(line) as [number, (string | null)[], string | null];
      yield { index, values, whole };
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16)}`;
}

/** Gives the rows of spools one by one, each when its turn comes. */
export class SpoolReader {
  readonly #rows: AsyncGenerator<SpooledRow, void, undefined>;
  #next: SpooledRow | null | undefined = undefined;

  constructor(spool: RowSpool) {
    this.#rows = spool.read();
  }

  /** The row of an index, which must not be lower than that of any call before; null: it is not there. */
  async take(index: number): Promise<SpooledRow | null> {
    while (this.#next === undefined || (this.#next !== null && this.#next.index < index)) {
      const { value, done } = await this.#rows.next();
      this.#next = done === true ? null : value;
    }
    return this.#next?.index === index ? this.#next : null;
  }
}
