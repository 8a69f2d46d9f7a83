export type Fork = 'main' | 'fsm' | 'vm' | 'init';

/** Which part of a relation a file holds. */
export interface RelationFile {
  /** Large relations are cut into files of 1 GB, counted from 0. */
  readonly segmentNumber: number;
  readonly fork: Fork;
  /** The number, within its fork, of the file's first block. A page's checksum depends on its block number. */
  readonly firstBlock: number;
}

/** A temporary table of one session: `t<session>_<number>`. @source relpath.c, GetRelationPath */
export const temporaryRelation = /^t\d+_\d+(_(fsm|vm|init))?(\.\d+)?$/;

/** Takes `16384`, `16384_vm`, `16384.2`, `16384_fsm.1` apart; null for any other name. @source relpath.c, reinit.c */
export function parseRelationFile(name: string): { node: string; fork: Fork; segmentNumber: number } | null {
  const match = /^([1-9]\d{0,9})(?:_(fsm|vm|init))?(?:\.([1-9]\d{0,5}))?$/.exec(name);
  if (!match) return null;
  return {
    node: match[1]!,
    fork: (match[2] as Fork | undefined) ?? 'main',
    segmentNumber: Number(match[3] ?? 0),
  };
}

const relationDirectory = /^(?:global|base\/\d+|pg_tblspc\/\d+\/PG_[^/]+\/\d+)$/;

/** Which relation's file a path of a data directory is, or null when it is none. */
export function relationOf(path: string, relationSegmentBlocks: number): RelationFile | null {
  const slash = path.lastIndexOf('/');
  if (slash < 0 || !relationDirectory.test(path.slice(0, slash))) return null;
  const file = parseRelationFile(path.slice(slash + 1));
  if (file === null) return null;
  const { fork, segmentNumber } = file;
  return { segmentNumber, fork, firstBlock: segmentNumber * relationSegmentBlocks };
}

/** @source catalog/pg_tablespace.dat */
const DEFAULT_TABLESPACE = 1663;
const GLOBAL_TABLESPACE = 1664;

/** Which relation the file at a path of a data directory belongs to, as the log names it; null when it is none. */
export function relationFileOf(
  path: string,
): { readonly tablespace: number; readonly database: number; readonly file: number } | null {
  const match = /^(?:global|base\/(\d+)|pg_tblspc\/(\d+)\/PG_[^/]+\/(\d+))\/([^/]+)$/.exec(path);
  const file = match === null ? null : parseRelationFile(match[4]!);
  if (match === null || file === null) return null;
  const tablespace =
    match[2] !== undefined
      ? Number(match[2])
      : match[1] !== undefined
        ? DEFAULT_TABLESPACE
        : GLOBAL_TABLESPACE;
  return { tablespace, database: Number(match[1] ?? match[3] ?? 0), file: Number(file.node) };
}
