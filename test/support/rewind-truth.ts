import { hash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readControlFile } from '../../src/engines/postgres/control-file.ts';
import { relationOf } from '../../src/engines/postgres/data-files-names.ts';
import type { InstanceContext } from '../../src/operations/instance-context.ts';
import { makeOwned, placeOf, prepareRecovery } from '../../src/operations/restore/assemble-directory.ts';
import { startLogFeeder } from '../../src/operations/restore/log-feeder.ts';
import type { RecoveryPlan } from '../../src/operations/restore/plan-restore.ts';
import { restoreFiles } from '../../src/operations/restore/restore-files.ts';
import { livePlace, ownerOfFiles, type Places } from '../../src/operations/rewind/places.ts';
import { replayUnseen } from '../../src/operations/rewind/replay-unseen.ts';
import type { Rewinding } from '../../src/operations/rewind/rewind.ts';
import { listLogDirectory, listServerFiles } from '../../src/operations/rewind/server-files.ts';
import { maskPage } from './page-mask.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

/** A full restore of the plan's backup to its target: recovered, stopped, and never seen by any session. */
export async function restoreTruth(
  context: InstanceContext,
  { plan, binaries, live }: Rewinding,
  directory: string,
): Promise<Places> {
  const owner = await ownerOfFiles(live.dataDirectory);
  const tablespaces = plan.backup.tablespaces.map(
    ({ oid }) => [oid, join(`${directory}-tablespaces`, String(oid))] as const,
  );
  const layout = { dataDirectory: directory, tablespaces: new Map(tablespaces) };
  await makeOwned(`${directory}-tablespaces`, owner);
  for (const place of [directory, ...layout.tablespaces.values()]) await makeOwned(place, owner);
  const to = { manifest: plan.manifest, owner, workers: 2 };
  await restoreFiles(
    context,
    { ...to, placeOf: line => (line.t === 'config' ? null : placeOf(layout, line.p)) },
    options,
  );
  await prepareRecovery(layout, plan.backup, owner);
  await using feeder = startLogFeeder(
    context,
    {
      files: plan.logFiles,
      log: { instance: context.instance, systemIdentifier: plan.backup.systemIdentifier },
      ...{ directory: join(directory, 'pg_wal'), owner, workers: 2, reuseBehind: null },
    },
    options.signal,
  );
  await mkdir(`${directory}-log`);
  await replayUnseen(
    {
      ...{ dataDirectory: directory, backup: plan.backup, binaries, owner, feeder },
      ...{ timeline: plan.timeline, targetLsn: plan.resolved.lsn! },
      ...{
        logFile: join(`${directory}-log`, 'recovery.log'),
        atLeast: await readControlFile(live.dataDirectory),
      },
    },
    options,
  );
  return { dataDirectory: directory, tablespaces, log: join(directory, 'pg_wal'), safety: '', stamp: '' };
}

export interface Comparison {
  readonly files: number;
  readonly pages: number;
  /** Pages that are the same but for hints, which no record tells. */
  readonly hinted: number;
  /** `path: …` for every file or page that is not the same. */
  readonly differences: readonly string[];
}

/** The state of transactions, beside the pages themselves. */
const COMPARED = /^pg_(xact|multixact|twophase|commit_ts)\/|pg_filenode\.map$|PG_VERSION$/;

/** Compares the main forks of all relations, page by page, and the state of transactions, byte by byte. */
export async function compareDirectories(
  one: Places,
  other: Places,
  backup: RecoveryPlan['backup'],
  /** False where full_page_writes is off: a hint has given the page its position, and redo of its record does nothing. */
  samePositions = true,
): Promise<Comparison> {
  const { blockSize, relationSegmentBlocks, tablespaceVersionDirectory } = backup;
  const wanted = (path: string): boolean => {
    const relation = relationOf(path, relationSegmentBlocks);
    return relation?.fork === 'main' || relation?.fork === 'init' || COMPARED.test(path);
  };
  const [a, b] = [one, other].map(places => listServerFiles(places, tablespaceVersionDirectory).files);
  const paths = new Set([...a!.keys(), ...b!.keys()].filter(wanted));
  // @source access/transam/xlog.c, xlog_redo: a hint's record without an image is passed over
  const mask = (page: Uint8Array): Buffer => (samePositions ? maskPage(page) : maskPage(page).fill(0, 0, 8));
  const differences: string[] = [];
  let pages = 0;
  let hinted = 0;
  for (const path of [...paths].sort()) {
    const [x, y] = [a!.get(path), b!.get(path)];
    if (x === undefined || y === undefined) {
      differences.push(`${path}: only in the ${x === undefined ? 'second' : 'first'}`);
      continue;
    }
    const [first, second] = [await readFile(livePlace(one, path)), await readFile(livePlace(other, path))];
    if (first.length !== second.length)
      differences.push(`${path}: ${first.length} and ${second.length} bytes`);
    for (let at = 0; at < Math.min(first.length, second.length); at += blockSize) {
      pages += 1;
      const [x, y] = [first.subarray(at, at + blockSize), second.subarray(at, at + blockSize)];
      if (x.equals(y)) continue;
      if (relationOf(path, relationSegmentBlocks) !== null && mask(x).equals(mask(y))) hinted += 1;
      else differences.push(`${path}: block ${at / blockSize}`);
    }
  }
  return { files: paths.size, pages, hinted, differences };
}

/** Bits of the visibility maps of one directory that the other's do not have, as `path: byte`. */
export async function visibilityBeyond(
  one: Places,
  other: Places,
  backup: RecoveryPlan['backup'],
): Promise<string[]> {
  const beyond: string[] = [];
  for (const path of listServerFiles(one, backup.tablespaceVersionDirectory).files.keys()) {
    if (!path.endsWith('_vm')) continue;
    const first = await readFile(livePlace(one, path));
    const second = await readFile(livePlace(other, path)).catch(() => Buffer.alloc(0));
    for (let at = 0; at < first.length; at += 1)
      if (at % backup.blockSize >= 24 && first[at]! & ~(second[at] ?? 0)) beyond.push(`${path}: ${at}`);
  }
  return beyond;
}

/** Every file of the server with its size and content: what going back must give again. */
export async function snapshotOf(
  places: Places,
  tablespaceVersionDirectory: string,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const listings = [listServerFiles(places, tablespaceVersionDirectory), listLogDirectory(places)];
  for (const { files, directories } of listings) {
    for (const path of directories.keys()) found.set(path, 'directory');
    for (const [path, { mode }] of files) {
      const bytes = await readFile(livePlace(places, path));
      found.set(path, `${mode} ${bytes.length} ${hash('sha256', bytes, 'hex')}`);
    }
  }
  return found;
}

/** What is different in two snapshots. */
export function snapshotDifferences(
  one: ReadonlyMap<string, string>,
  other: ReadonlyMap<string, string>,
): string[] {
  const paths = new Set([...one.keys(), ...other.keys()]);
  return [...paths]
    .filter(path => one.get(path) !== other.get(path))
    .map(path => `${path}: ${one.get(path) ?? 'not there'}, then ${other.get(path) ?? 'not there'}`);
}
