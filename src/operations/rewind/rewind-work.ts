import { closeSync, openSync, readSync } from 'node:fs';
import { fileError, systemCode } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import { relationFileOf } from '../../engines/postgres/data-files-names.ts';
import type { FileLine } from '../../repository/manifest.ts';
import { type Manifest, manifestLines } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type PageWork, pageRules } from './page-rules.ts';
import { livePlace, type Places } from './places.ts';
import type { SavedState } from './saved-state.ts';
import { isServerFile, type ServerFiles } from './server-files.ts';

/** What a rewind does with one file of the backup. */
export interface FileWork {
  readonly line: FileLine;
  readonly work: PageWork;
}

export const CONTROL_FILE = 'global/pg_control';
/** The links of tablespaces are there already. */
const TABLESPACE_MAP = 'tablespace_map';

/**
 * What is to be done with each file of the backup, in its order; `seen` is called for every path of it, directories
 * included. What else there is in the live directory does not belong there.
 */
export async function* rewindWork(
  context: Pick<InstanceContext, 'repository'>,
  from: {
    readonly manifest: Manifest;
    readonly state: SavedState;
    readonly leaveSettled: boolean;
    readonly replayed?: ReadonlySet<string>;
  },
  options: {
    readonly signal: AbortSignal;
    readonly seen: (path: string, mode: number, isFile: boolean) => void;
  },
): AsyncGenerator<FileWork, void, undefined> {
  const { manifest, state } = from;
  const { keepingCosts, settling } = state;
  const rules = pageRules(state.map, manifest.backup, {
    ...{ keepingCosts, settling, leaveSettled: from.leaveSettled },
    ...(from.replayed === undefined ? {} : { replayed: from.replayed }),
  });
  for await (const line of manifestLines(context.repository, manifest, { signal: options.signal })) {
    if (line.t === 'config') continue;
    const isOurs = line.p === 'backup_label' || isServerFile(line.p) || line.p.startsWith('pg_wal/');
    if (!isOurs || line.p.endsWith('.conf')) continue;
    options.seen(line.p, line.m, line.t === 'file');
    if (line.t === 'dir' || line.p === TABLESPACE_MAP) continue;
    const work = rules.workOf({
      path: line.p,
      baseBytes: line.s,
      liveBytes: state.live.files.get(line.p)?.sizeBytes ?? null,
      isSpGist: () => state.spGist.has(firstFileOf(line.p)),
    });
    yield { line, work: work ?? { kind: 'replace', left: [], fromLive: [] } };
  }
}

/** Of a fork of a relation, the path of the first of its files. */
export function firstFileOf(path: string): string {
  return path.replace(/\.\d+$/, '');
}

/** @source access/spgist_private.h, SPGIST_MAGIC_NUMBER, behind the page header */
const SPGIST_MAGIC = 0xba0babee;
const MAGIC_OFFSET = 24;

/** The first files of those relations that the log names and whose metapage says that they are SP-GiST indexes. */
export function findSpGist(places: Places, live: ServerFiles, map: ChangeMap): Set<string> {
  const named = new Set<string>();
  for (const { relation, fork } of map.forks.values())
    if (fork === 0) named.add(`${relation.tablespace}/${relation.database}/${relation.file}`);
  const found = new Set<string>();
  for (const path of live.files.keys()) {
    if (!/\/\d+$/.test(path)) continue;
    const relation = relationFileOf(path);
    if (relation === null || !named.has(`${relation.tablespace}/${relation.database}/${relation.file}`))
      continue;
    if (hasSpGistMetapage(livePlace(places, path))) found.add(path);
  }
  return found;
}

function hasSpGistMetapage(file: string): boolean {
  const magic = Buffer.alloc(4);
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch (error) {
    // Dropped, so that all of it is made anew.
    if (systemCode(error) === 'ENOENT') return false;
    throw fileError('read', file, error);
  }
  try {
    return readSync(handle, magic, 0, 4, MAGIC_OFFSET) === 4 && magic.readUInt32LE() === SPGIST_MAGIC;
  } finally {
    closeSync(handle);
  }
}
