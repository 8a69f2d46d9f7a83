/**
 * Every error this program can end with. The doc comment of a code is its page in the manual: docs/errors.md is
 * generated from this file (`npm run docs`), the first sentence as summary, the rest as what to do.
 *
 * The number is the exit code: 1 failed; 2 usage or configuration; 3 finished with problems; 4 refused before anything
 * was changed; 6 not found; 7 conflict; 8 storage or database unreachable; 9 verification failed; 70 bug; 130 cancelled.
 */
export const exitCodes = {
  /** The command line could not be understood. The message names the option; `aishell <command> --help` shows what is accepted. */
  USAGE: 2,
  /** The configuration file is missing or has mistakes. Every mistake is listed at once, each with its line; `aishell backup init` writes a first file. */
  CONFIG: 2,
  /** An input is no SQL that PostgreSQL understands. Nothing of it was run; the lines above it show the place. */
  SQL_SYNTAX: 2,
  /** A secret was given where others can read it. Give secrets as `env:NAME`, `file:PATH` or `command:…`, never on the command line. */
  SECRET_EXPOSED: 2,
  /** A secret could not be read. The environment variable is not set, the file is missing or readable by others, or the command failed. */
  SECRET_UNAVAILABLE: 2,
  /** Several transactions fit what was described. The message lists each with the command that means it alone. */
  TARGET_AMBIGUOUS: 2,
  /** A format version, feature or option is not known to this program. It was written by a newer version: install that one. */
  UNSUPPORTED: 2,

  /** The work was done, but something needs attention. The last lines say what. */
  FINISHED_WITH_PROBLEMS: 3,

  /** A confirmation is needed and was not given. Nothing was changed; run it in a terminal, or with `--confirm "restore <instance>" --yes`. */
  CONFIRMATION_REQUIRED: 4,
  /** The target directory is not empty. Nothing was changed; choose an empty or a new directory. */
  TARGET_NOT_EMPTY: 4,
  /** A server is running in the target directory. Nothing was changed; stop it, or choose another directory. */
  TARGET_RUNNING: 4,
  /** The target cannot be used for a restore. It is production's own directory, a mount point, inside the repository, or not writable. */
  TARGET_UNUSABLE: 4,
  /** The recovery target cannot be reached with what the repository holds. The message says what can be reached instead. */
  TARGET_UNREACHABLE: 4,
  /** The live data directory cannot be rewound. The message says why; without `--rewind`, or with `--full`, all of the backup is restored. */
  REWIND_IMPOSSIBLE: 4,
  /** A time could not be understood, or means more than one moment. The message says what was understood; write it as ISO 8601 with a zone. */
  TIME_AMBIGUOUS: 4,
  /** There is not enough free space for what was asked. Nothing was changed; the message says how much is needed, and where. */
  SPACE_INSUFFICIENT: 4,
  /** The data directory belongs to another database system. Its system identifier is not the one of this instance; check the instance's configuration. */
  SYSTEM_MISMATCH: 4,
  /** A restored copy tried to archive its log. Copies never write into the repository of their origin; see docs/restore.md to make one an instance of its own. */
  COPY_REFUSED: 4,
  /** Log archiving is off. Set `archive_mode = on` and the printed `archive_command`, then restart the server; without it only whole backups can be restored. */
  ARCHIVE_OFF: 4,
  /** This server is of a version that is not supported. Supported are PostgreSQL 14 to 18. */
  ENGINE_VERSION: 4,
  /** The way this server is started and stopped is not known. Set `service` in the configuration (see docs/configuration.md). */
  SERVICE_UNKNOWN: 4,
  /** A statement cannot be run by `aishell sql`. Nothing was sent to the server; the message says why. */
  STATEMENT_REFUSED: 4,
  /** Writes cannot be stopped at this level here. Nothing was changed; the message says why, and which level can be used. */
  STOP_REFUSED: 4,
  /** How this database is protected cannot be changed here. Nothing was changed; the message says why. */
  HARDEN_REFUSED: 4,
  /** What a transaction destroyed cannot be put back like this. Nothing was changed; the message says why, and what can be done instead. */
  UNDO_REFUSED: 4,
  /** A notification would go to an address it must not go to. It is unencrypted, of a private network, or of a cloud's metadata service; docs/notifications.md says how to allow the first two. */
  ADDRESS_REFUSED: 4,

  /** There is no repository at this location. Check the location, or create one with `aishell backup init`. */
  REPOSITORY_NOT_FOUND: 6,
  /** There is no such backup. `aishell backup list` shows which there are. */
  BACKUP_NOT_FOUND: 6,
  /** The log does not hold this transaction, position or segment. */
  LOG_NOT_FOUND: 6,
  /** The instance is not in the configuration or not in the repository. */
  INSTANCE_NOT_FOUND: 6,
  /** There is no such incident. `aishell incident list` shows which there are. */
  INCIDENT_NOT_FOUND: 6,
  /** No agent answers for this instance. Start it with `aishell agent run`, as the same user and with the same configuration. */
  AGENT_NOT_RUNNING: 6,
  /** There is no such channel for notifications. `aishell backup alert list` shows which there are. */
  CHANNEL_NOT_FOUND: 6,
  /** A program that is needed is not installed. The message names it and where it was looked for. */
  PROGRAM_NOT_FOUND: 6,

  /** The name or object exists already and holds something else. Nothing was overwritten. */
  EXISTS: 7,
  /** Another run is working on the same thing. Wait for it, or stop it. */
  LOCKED: 7,
  /** A log segment of this name is archived already, with other bytes. Two servers archive into one instance, or a segment was damaged: nothing was overwritten. */
  LOG_CONFLICT: 7,

  /** The storage could not be reached or refused. The message carries its own words. */
  STORAGE_UNREACHABLE: 8,
  /** The storage refused for want of permission. The message names the path or object; give the user running this program access. */
  STORAGE_DENIED: 8,
  /** The storage is full. Free space or enlarge it; everything already committed is whole, and the same command can be run again. */
  STORAGE_FULL: 8,
  /** The database server could not be reached. Is it running, and are host, port and user right? */
  DATABASE_UNREACHABLE: 8,
  /** The database refused the connection or a statement for want of rights. The message names the right that is missing. */
  DATABASE_DENIED: 8,
  /** A notification could not be delivered. The channel could not be reached, or refused it; the message carries its own words. */
  CHANNEL_FAILED: 8,

  /** The passphrase or key does not open this repository. */
  KEY_WRONG: 9,
  /** Something in the repository is damaged: it is missing, cut off, or its bytes were changed. The message names the object and what it affects. */
  CORRUPT: 9,
  /** A verification found differences. The report lists each. */
  VERIFICATION_FAILED: 9,
  /** A page of the database itself is damaged: its checksum is wrong on the server's disk. The backup has it as it is. */
  PAGE_CORRUPT: 9,

  /** The database server ended an operation with an error. The message carries its own words. */
  DATABASE_FAILED: 1,
  /** A file or directory could not be read or written. */
  FILE_FAILED: 1,
  /** The disk is full. Free space, then run the same command again; nothing committed was damaged. */
  DISK_FULL: 1,
  /** The server could not be stopped or started. The message says which command failed and what it printed. */
  SERVICE_FAILED: 1,
  /** The recovery did not reach its target. The old state is untouched; the message says where the server's log is. */
  RECOVERY_FAILED: 1,
  /** It took longer than allowed. */
  TIMEOUT: 1,

  /** This is a mistake in the program. Please report it with the lines above. */
  BUG: 70,
  /** Stopped on request. What was begun is left so that it can be run again. */
  CANCELLED: 130,
} as const;

/** A name from {@link exitCodes}. */
export type ErrorCode = keyof typeof exitCodes;
