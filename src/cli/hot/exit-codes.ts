/**
 * What `wal-fetch` ends with when the file is not archived. bin/aishell makes 1 of it, and 200 of every other failure that
 * PostgreSQL would take for the end of the log: it stops a recovery only when restore_command exits above 125.
 * @source PostgreSQL, xlogarchive.c, RestoreArchivedFile; wait_error.c, wait_result_is_any_signal
 */
export const NOT_ARCHIVED = 120;
