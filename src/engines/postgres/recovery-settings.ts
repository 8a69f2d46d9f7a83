import { AppError, assert } from '../../base/errors.ts';

/** Where a recovery ends. `inclusive`: does what happened at the target itself count? */
export type RecoveryTarget =
  /** The end of the log. */
  | { readonly kind: 'latest' }
  /** As soon as the copy is consistent. */
  | { readonly kind: 'consistent' }
  | { readonly kind: 'lsn'; readonly lsn: string; readonly inclusive: boolean }
  /** ISO 8601 with a zone, up to microseconds. */
  | { readonly kind: 'time'; readonly time: string; readonly inclusive: boolean }
  /** Stops by the order of commits, not of transaction numbers. */
  | { readonly kind: 'xid'; readonly xid: string; readonly inclusive: boolean };

/** `pause`: stays a readable hot standby at the target; `promote`: opens on a new timeline; `shutdown`: stops there. */
export type TargetAction = 'pause' | 'promote' | 'shutdown';

export type Settings = Readonly<Record<string, string>>;

export interface RecoveryRequest {
  readonly target: RecoveryTarget;
  /** The timeline to follow. Always a number: `latest` would look for other timelines and follow the newest. */
  readonly timeline: number;
  readonly action: TargetAction;
  /** A shell command with `%f` and `%p`; empty: all log lies in pg_wal already. */
  readonly restoreCommand: string;
}

/**
 * The settings that let a server recover to a target. Only one recovery_target may be set, so the others are set empty:
 * the configuration that came with the copy may have one. The one that counts comes last, and must stay so: the server
 * applies them in order, and takes even an empty one after another for a second target.
 *
 * @source PostgreSQL manual, "Recovery Target"; xlogrecovery.c, assign_recovery_target_lsn and its like
 */
export function recoverySettings(request: RecoveryRequest): Settings {
  const { target } = request;
  const [name, value] = targetSetting(target);
  const emptied = targetNames.filter(other => other !== name).map(other => [other, ''] as const);
  return {
    restore_command: request.restoreCommand,
    ...Object.fromEntries(emptied),
    recovery_target_inclusive: 'inclusive' in target && !target.inclusive ? 'off' : 'on',
    recovery_target_timeline: String(request.timeline),
    recovery_target_action: request.action,
    recovery_min_apply_delay: '0',
    recovery_end_command: '',
    archive_cleanup_command: '',
    ...(name === null ? {} : { [name]: value }),
  };
}

const targetNames = [
  'recovery_target',
  'recovery_target_name',
  'recovery_target_lsn',
  'recovery_target_time',
  'recovery_target_xid',
] as const;

function targetSetting(target: RecoveryTarget): readonly [(typeof targetNames)[number] | null, string] {
  switch (target.kind) {
    case 'latest':
      return [null, ''];
    case 'consistent':
      return ['recovery_target', 'immediate'];
    case 'lsn':
      return ['recovery_target_lsn', target.lsn];
    case 'time':
      return ['recovery_target_time', target.time];
    case 'xid':
      return ['recovery_target_xid', target.xid];
  }
}

/**
 * For a server with a standby.signal whose log is put into pg_wal while it replays.
 *
 * It looks for the next segment this often when that is not there yet, and writes a line about it each time. It shows the segment that it is at. And what it
 * needs no more it removes, instead of giving it the name of a segment to come, under which it would find old records.
 * @source xlogrecovery.c, WaitForWALToBecomeAvailable (xlog.c before 15); xlog.c, RemoveXlogFile
 */
export const fedRecoverySettings: Settings = {
  wal_retrieve_retry_interval: '20ms',
  update_process_title: 'on',
  wal_recycle: 'off',
};

/**
 * For a recovery of which all pages that it reads were just written, so are in memory: looking ahead in the log for pages to
 * have the system read costs more than it saves (measured: 2.3 of 7.4 s of the startup process), most of all where it asks for
 * a page that an image in the log just in front is going to make.
 * @source xlogprefetcher.c, XLogPrefetcherNextBlock: since release 15
 */
export function pagesInMemory(majorVersion: number): Settings {
  return majorVersion < 15 ? {} : { recovery_prefetch: 'off' };
}

/**
 * What keeps a restored copy from touching its origin: it archives nothing, streams from nowhere, holds no commit for a
 * standby, subscribes to nothing, and writes to no file of the origin's.
 */
export const isolatingSettings: Settings = {
  archive_mode: 'off',
  archive_command: '',
  primary_conninfo: '',
  primary_slot_name: '',
  synchronous_standby_names: '',
  archive_cleanup_command: '',
  recovery_end_command: '',
  recovery_min_apply_delay: '0',
  max_logical_replication_workers: '0',
  external_pid_file: '',
};

/** Settings that only some versions know, and that a copy needs as well. */
export function isolatingSettingsFor(majorVersion: number): Settings {
  return {
    ...isolatingSettings,
    ...(majorVersion >= 15 ? { archive_library: '' } : { stats_temp_directory: 'pg_stat_tmp' }),
    ...(majorVersion <= 15 ? { promote_trigger_file: '' } : {}),
    // What summarizes the log reads it behind the recovery, where it may be gone.
    ...(majorVersion >= 17 ? { sync_replication_slots: 'off', summarize_wal: 'off' } : {}),
  };
}

const BLOCK_BEGIN = '# aishell recovery begin: removed once the recovery is done';
const BLOCK_END = '# aishell recovery end';

/** The text of postgresql.auto.conf with a block of settings at its end, where they win; an earlier block goes. */
export function addSettingsBlock(text: string, settings: Settings): string {
  const kept = stripSettingsBlock(text);
  const lines = Object.entries(settings).map(([name, value]) => `${settingLine(name, value)}\n`);
  return `${kept}${kept === '' || kept.endsWith('\n') ? '' : '\n'}${BLOCK_BEGIN}\n${lines.join('')}${BLOCK_END}\n`;
}

/** The text without that block; a block whose end is missing goes to the end of the file. */
export function stripSettingsBlock(text: string): string {
  const kept: string[] = [];
  let inside = false;
  for (const line of text.split('\n')) {
    if (line === BLOCK_BEGIN) inside = true;
    if (!inside) kept.push(line);
    if (line === BLOCK_END) inside = false;
  }
  // A block that is cut off took the last line end with it.
  const result = kept.join('\n');
  return inside && result !== '' ? `${result}\n` : result;
}

/** One line of a configuration file. @source guc-file.l: within quotes, `'` is doubled and `\` escapes */
export function settingLine(name: string, value: string): string {
  assert(/^[a-z_][a-z0-9_.]*$/i.test(name), `'${name}' is no name of a setting`);
  const quoted = value
    .replaceAll('\\', '\\\\')
    .replaceAll("'", "''")
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r');
  return `${name} = '${quoted}'`;
}

/**
 * A postgresql.conf that lay outside the data directory, made fit to lie within it: what names other places is commented
 * out, with the reason. `keepInclude` tells which included files came along.
 */
export function neutraliseConfiguration(
  text: string,
  keepInclude: (path: string) => boolean = () => false,
): string {
  const places = /^\s*(data_directory|hba_file|ident_file|external_pid_file)\b/i;
  const include = /^\s*include(?:_if_exists|_dir)?\s*=?\s*(?:'((?:[^'\\]|''|\\.)*)'|(\S+))/i;
  return text
    .split('\n')
    .map(line => {
      const included = include.exec(line);
      const away = included
        ? !keepInclude((included[1] ?? included[2] ?? '').replaceAll("''", "'"))
        : places.test(line);
      return away ? `#${line} # by aishell: it names a place of the original server` : line;
    })
    .join('\n');
}

export interface TablespaceMapEntry {
  readonly oid: number;
  readonly path: string;
}

/** Reads a tablespace_map. @throws CORRUPT @source xlogrecovery.c, read_tablespace_map: `\` escapes line ends and itself */
export function parseTablespaceMap(text: string): TablespaceMapEntry[] {
  const entries: TablespaceMapEntry[] = [];
  for (const match of text.matchAll(/((?:[^\\\n\r]|\\.)+)|[\n\r]/gs)) {
    if (match[1] === undefined) continue;
    const [, oid, path] = /^(\d+) (.+)$/s.exec(match[1]) ?? [];
    if (oid === undefined || path === undefined) {
      throw new AppError(
        'CORRUPT',
        `unable to read the tablespace_map: '${match[1].slice(0, 80)}' is no entry`,
      );
    }
    entries.push({ oid: Number(oid), path: path.replace(/\\(.)/gs, '$1') });
  }
  return entries;
}

/** Writes a tablespace_map; the server makes its links from it as recovery starts. */
export function formatTablespaceMap(entries: readonly TablespaceMapEntry[]): string {
  return entries.map(({ oid, path }) => `${oid} ${path.replace(/[\\\n\r]/g, '\\$&')}\n`).join('');
}
