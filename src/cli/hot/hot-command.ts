/**
 * Runs `backup wal-archive` and `backup wal-fetch` when the arguments are as PostgreSQL gives them. Resolves to the exit
 * code, or to null when the arguments need the full command line (help, a mistake, `--json`).
 */
export async function runHotCommand(_args: readonly string[]): Promise<number | null> {
  return null;
}
