import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { isoMoment } from '../../base/moment.ts';
import type { LostOperation, LostTransaction } from './lost-rows.ts';
import type { SpooledRow } from './row-spool.ts';
import type { TableShape } from './table-shape.ts';

/** One lost row with everything that was read of it. */
export interface ReadRow {
  readonly operation: LostOperation;
  /** In whose place it stands. */
  readonly transaction: LostTransaction;
  /** The transaction whose values it has, when that is a later one. */
  readonly leftBy: LostTransaction | null;
  /** Of the table when the row was last there. */
  readonly shape: TableShape;
  /** As it was at the target, with the table's shape then; null of an insert. */
  readonly before: (SpooledRow & { readonly shape: TableShape }) | null;
  /** As it was last; null of a delete. */
  readonly after: SpooledRow | null;
}

/** Where lost rows are written to, in the order of their transactions. */
export interface LostOutput {
  /** @returns false when there is nothing to write: no value changed */
  write(row: ReadRow): Promise<boolean>;
  finish(): Promise<{ readonly path: string; readonly rows: number }[]>;
}

const FLUSH_CHARACTERS = 1 << 18;

/** A new file of text that only its owner reads. */
export class OutputFile {
  readonly path: string;
  rows = 0;
  readonly #file: FileHandle;
  #buffer: string[] = [];
  #length = 0;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** @throws TARGET_NOT_EMPTY it is there already */
  static async create(directory: string, name: string): Promise<OutputFile> {
    const path = join(directory, name);
    try {
      return new OutputFile(path, await open(path, 'wx', 0o600));
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw fileError('create', path, error);
      throw new AppError('TARGET_NOT_EMPTY', `unable to write '${path}': it is there already`, {
        hint: 'Choose another directory.',
      });
    }
  }

  async write(text: string): Promise<void> {
    this.#buffer.push(text);
    this.#length += text.length;
    if (this.#length >= FLUSH_CHARACTERS) await this.#flush();
  }

  async close(): Promise<void> {
    await this.#flush();
    await this.#file.sync();
    await this.#file.close();
  }

  async #flush(): Promise<void> {
    try {
      await this.#file.appendFile(this.#buffer.join(''));
    } catch (error) {
      throw fileError('write', this.path, error);
    }
    this.#buffer = [];
    this.#length = 0;
  }
}

/** Names of files from names that may hold anything; two different ones never become the same. */
export class FileNames {
  readonly #given = new Map<string, string>();
  readonly #taken = new Set<string>();

  nameFor(parts: readonly string[], ending: string): string {
    const key = JSON.stringify(parts);
    const known = this.#given.get(key);
    if (known !== undefined) return known;
    const plain = parts.map(part => part.replace(/[^A-Za-z0-9_-]/g, '_').slice(0, 60)).join('.');
    let name = `${plain}${ending}`;
    for (let number = 2; this.#taken.has(name); number += 1) name = `${plain}-${number}${ending}`;
    this.#taken.add(name);
    this.#given.set(key, name);
    return name;
  }
}

export function committedAt({ timeUs }: LostTransaction): string {
  return isoMoment(timeUs);
}
