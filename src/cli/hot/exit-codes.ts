/**
 * The exit code of `wal-fetch` in trouble. PostgreSQL ends a recovery when restore_command exits above 125; lower ones
 * it takes for the end of the log. Not 143 (128 + SIGTERM), which it takes for its own shutdown.
 * @source PostgreSQL, xlogarchive.c, RestoreArchivedFile; wait_error.c, wait_result_is_any_signal
 */
export const FETCH_TROUBLE = 200;
