import { constantOf, optionOf, type Tree, textOf, treesOf, typed } from './sql-tree.ts';
import { classOf, type StatementClass, type TransactionControl } from './statement-class.ts';

/** Settings that switch something off which protects data, with what they switch off. */
const protectiveSettings: readonly (readonly [RegExp, string])[] = [
  [/^aishell\./, 'switches off what protects tables from mass changes'],
  [/^session_replication_role$/, 'switches off triggers and foreign keys'],
  [/^allow_system_table_mods$/, 'lets statements damage the system catalogs'],
  [/^zero_damaged_pages$/, 'empties damaged pages for good'],
  [/^ignore_(checksum_failure|system_indexes|invalid_pages)$/, 'ignores damage'],
  [/^(default_)?transaction_read_only$/, 'decides whether this session may write'],
  [/^track_counts$/, 'switches off the counting of changed rows'],
];

/** Why a change of a setting is asked about; null for a harmless one. `name` is null where it is computed. */
export function settingDanger(name: string | null): string | null {
  if (name === null) return 'set_config sets something whose name cannot be known beforehand';
  const why = protectiveSettings.find(([pattern]) => pattern.test(name))?.[1];
  return why === undefined ? null : `the setting ${name} ${why}`;
}

/** What would make the server and this console read or write the same bytes differently. */
export function settingRefusal(name: string | null): string | null {
  return name !== null && /^(standard_conforming_strings|backslash_quote|client_encoding)$/.test(name)
    ? `${name} changes how the server reads what is sent to it, and this console would read it otherwise`
    : null;
}

/** SET, RESET and SHOW, DISCARD. Null for any other. */
export function classifySetting(type: string, node: Tree): StatementClass | null {
  if (type === 'VariableShowStmt') return classOf('read', 'SHOW');
  if (type === 'DiscardStmt') {
    const all = node['target'] === 'DISCARD_ALL';
    return classOf('setting', 'DISCARD', { outside: all, unlocks: all });
  }
  if (type === 'ConstraintsSetStmt') return classOf('setting', 'SET CONSTRAINTS');
  if (type !== 'VariableSetStmt') return null;
  const kind = String(node['kind']);
  if (kind === 'VAR_RESET_ALL') return classOf('setting', 'RESET ALL', { unlocks: true });
  const name = textOf(node['name'])?.toLowerCase() ?? null;
  if (kind === 'VAR_SET_MULTI') {
    // SET TRANSACTION SNAPSHOT has a constant here, the others a list of options.
    return classOf('setting', 'SET TRANSACTION', { unlocks: asksToWrite(node['args']) });
  }
  const resets = kind === 'VAR_RESET' || kind === 'VAR_SET_DEFAULT';
  const value = constantOf(treesOf(node['args'])[0]);
  const danger = isSafeValue(name, value) ? null : settingDanger(name);
  return classOf('setting', resets ? 'RESET' : 'SET', {
    settings: [name],
    dangers: danger === null || resets ? [] : [danger],
    refusal: settingRefusal(name),
    unlocks: /^(default_)?transaction_read_only$/.test(name ?? ''),
  });
}

/** A value that protects more, not less. */
function isSafeValue(name: string | null, value: string | null): boolean {
  if (name === null || value === null) return false;
  if (/read_only$/.test(name)) return /^(on|true|1|yes)$/i.test(value);
  if (name === 'session_replication_role') return value === 'origin';
  if (name === 'track_counts') return /^(on|true|1|yes)$/i.test(value);
  return /^(aishell\.|allow_|zero_|ignore_)/.test(name) && /^(off|false|0|no)$/i.test(value);
}

const controls: Readonly<Record<string, readonly [TransactionControl, string]>> = {
  TRANS_STMT_BEGIN: ['begin', 'BEGIN'],
  TRANS_STMT_START: ['begin', 'START TRANSACTION'],
  TRANS_STMT_COMMIT: ['commit', 'COMMIT'],
  TRANS_STMT_ROLLBACK: ['rollback', 'ROLLBACK'],
  TRANS_STMT_SAVEPOINT: ['savepoint', 'SAVEPOINT'],
  TRANS_STMT_RELEASE: ['release', 'RELEASE'],
  TRANS_STMT_ROLLBACK_TO: ['rollback-to', 'ROLLBACK TO'],
  TRANS_STMT_PREPARE: ['prepare', 'PREPARE TRANSACTION'],
  TRANS_STMT_COMMIT_PREPARED: ['end-prepared', 'COMMIT PREPARED'],
  TRANS_STMT_ROLLBACK_PREPARED: ['end-prepared', 'ROLLBACK PREPARED'],
};

export function classifyTransaction(node: Tree): StatementClass {
  const found = controls[String(node['kind'])];
  if (found === undefined) return classOf('unknown', 'transaction control');
  const [control, command] = found;
  const prepared = control === 'end-prepared';
  return classOf('transaction', command, {
    control,
    outside: prepared,
    unlocks: asksToWrite(node['options']),
    dangers: prepared ? [`${command} ends a transaction whose changes are not known here`] : [],
    objects: prepared ? [{ schema: null, name: textOf(node['gid']) ?? '' }] : [],
    refusal:
      node['chain'] === true
        ? 'AND CHAIN begins another transaction unseen; write COMMIT or ROLLBACK, then BEGIN'
        : null,
  });
}

/** READ WRITE among the modes of a transaction. */
function asksToWrite(options: unknown): boolean {
  const mode = optionOf(options, 'transaction_read_only');
  return mode.given && mode.value !== '1' && mode.value !== 'true';
}

/** The names of a statement and the query in it. */
export function preparedQuery(node: Tree): {
  readonly name: string | null;
  readonly query: ReturnType<typeof typed>;
} {
  return { name: textOf(node['name']), query: typed(node['query']) };
}
