import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { parseStopRecord, type StopRecord } from './stop-record.ts';

/** A step that was done, for people: putting back needs the record alone. */
export interface StepMark {
  readonly action: 'stop' | 'resume';
  readonly step: string;
  readonly at: string;
}

/** What this machine knows of a stop. */
export interface StopJournal {
  readonly record: StopRecord;
  readonly steps: readonly StepMark[];
}

type Line = { readonly record: StopRecord } | { readonly mark: StepMark };

export function journalPath(directory: string, instance: string): string {
  return join(directory, `${instance}.emergency.jsonl`);
}

/**
 * Reads the journal of an instance: lines of JSON, the last record counts. A last line that a crash cut off is passed
 * over. Null when there is none.
 *
 * @throws CORRUPT UNSUPPORTED FILE_FAILED
 */
export async function readJournal(directory: string, instance: string): Promise<StopJournal | null> {
  const path = journalPath(directory, instance);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
  let record: StopRecord | null = null;
  const steps: StepMark[] = [];
  for (const line of text.split('\n').slice(0, -1)) {
    const parsed = parseLine(line);
    if (parsed === null) continue;
    if ('record' in parsed) record = parseStopRecord(parsed.record, `'${path}'`);
    else steps.push(parsed.mark);
  }
  return { record: record ?? parseStopRecord(null, `'${path}'`), steps };
}

function parseLine(line: string): Line | null {
  try {
    return JSON.parse(line) as Line;
  } catch {
    return null;
  }
}

/** Begins the journal of a stop, or adds a later record to it. When it returns, the record survives a power failure. */
export async function writeRecord(directory: string, record: StopRecord): Promise<void> {
  const path = journalPath(directory, record.instance);
  try {
    if ((await readJournal(directory, record.instance))?.record.id === record.id) {
      await append(path, { record });
      return;
    }
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const temporary = `${path}.${process.pid}`;
    {
      await using file = await open(temporary, 'w', 0o600);
      await file.writeFile(`${JSON.stringify({ record })}\n`);
      await file.sync();
    }
    await rename(temporary, path);
    await using folder = await open(dirname(path), 'r');
    await folder.sync();
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw fileError('write', path, error);
  }
}

export async function markStep(directory: string, instance: string, mark: StepMark): Promise<void> {
  await append(journalPath(directory, instance), { mark });
}

async function append(path: string, line: Line): Promise<void> {
  // Without `O_CREAT`: a journal that is gone was put back, and must not begin again without its record.
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  const text = `${size > 0 && (await endsInLine(file, size)) ? '' : '\n'}${JSON.stringify(line)}\n`;
  await file.write(text, size);
  await file.datasync();
}

async function endsInLine(file: Awaited<ReturnType<typeof open>>, size: number): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === 0x0a;
}

export async function removeJournal(directory: string, instance: string): Promise<void> {
  const path = journalPath(directory, instance);
  await rm(path, { force: true }).catch((error: unknown) => {
    throw fileError('remove', path, error);
  });
}
