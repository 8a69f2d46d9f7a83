import { constantOf, namesOf, nodesIn, treesOf } from './sql-tree.ts';

/** What a statement calls that no transaction can take back, or that changes how this console protects. */
export interface FunctionFindings {
  /** Names of functions whose effects stay whatever becomes of the transaction. */
  readonly lasting: readonly string[];
  /** The settings changed by set_config; null for one whose name is computed. */
  readonly settings: readonly (string | null)[];
}

/**
 * Functions of PostgreSQL and its extensions that act outside of the transaction they are called in. Those that write inside of
 * it need no list: a read-only transaction refuses them.
 *
 * @source PostgreSQL manual, "System Administration Functions", "Large Objects", "dblink", "adminpack"
 */
const lastingFunctions =
  /^(pg_(terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_switch_(wal|xlog)|pg_create_restore_point|pg_promote|pg_wal_replay_\w+|pg_(start|stop)_backup|pg_backup_(start|stop)|pg_\w*replication_(slot|origin)\w*|pg_copy_\w+_slot|pg_logical_(slot_(get|peek)|emit)\w*|pg_sync_replication_slots|pg_stat_reset\w*|pg_stat_statements_reset|pg_log_\w+|pg_file_(write|rename|unlink|sync)|lo_export|dblink\w*|pg_import_system_collations)$/;

export function findFunctions(tree: unknown): FunctionFindings {
  const lasting = new Set<string>();
  const settings = new Set<string | null>();
  for (const { type, node } of nodesIn(tree)) {
    if (type !== 'FuncCall') continue;
    const name = namesOf(node['funcname']).at(-1) ?? '';
    if (lastingFunctions.test(name)) lasting.add(name);
    if (name === 'set_config') settings.add(constantOf(treesOf(node['args'])[0])?.toLowerCase() ?? null);
  }
  return { lasting: [...lasting], settings: [...settings] };
}
