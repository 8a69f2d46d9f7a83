/** The longest name PostgreSQL keeps. @source PostgreSQL, NAMEDATALEN */
const NAME_BYTES = 63;

/** What an instance's slot is called, and the receiver in `pg_stat_replication`: letters, digits and underscores only. */
export function agentName(instance: string): string {
  return `aishell_${instance.replace(/[^a-z0-9_]/g, '_')}`.slice(0, NAME_BYTES);
}
