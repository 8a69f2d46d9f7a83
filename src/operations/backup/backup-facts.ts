import { isAbsolute } from 'node:path';
import type { BaseBackup, BaseBackupEnd } from '../../engines/postgres/base-backup.ts';
import { formatCompression } from '../../repository/compression.ts';
import type { BackupFacts, PackFacts } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { InstanceAnalysis } from './analyze-instance.ts';
import type { FileAssembler } from './file-assembler.ts';
import type { Increment } from './increment.ts';
import type { BackupLog } from './secure-backup-log.ts';

/** Everything that was copied of an instance, durable but for the manifest. */
export interface Copied {
  readonly base: BaseBackup;
  readonly end: BaseBackupEnd;
  readonly assembler: FileAssembler;
  /** In the order in which chunks number them; those of other backups included. */
  readonly packs: readonly PackFacts[];
  readonly log: BackupLog;
  /** Null: everything was copied anew. */
  readonly increment: Increment | null;
}

/** What the manifest says of a finished backup. */
export function backupFacts(made: {
  readonly context: InstanceContext;
  readonly analysis: InstanceAnalysis;
  readonly id: string;
  readonly name: string;
  readonly copied: Copied;
  readonly seconds: number;
}): BackupFacts {
  const { context, analysis, copied } = made;
  const { facts } = analysis;
  return {
    id: made.id,
    name: made.name,
    instance: context.instance,
    engine: 'postgresql',
    ...typeOf(copied.increment),
    toolVersion: context.toolVersion,
    serverVersion: facts.versionNumber,
    systemIdentifier: facts.systemIdentifier,
    timeline: copied.base.timeline,
    startLsn: copied.base.startLsn,
    stopLsn: copied.end.stopLsn,
    startTime: copied.base.startTime,
    stopTime: copied.end.stopTime,
    serverStartTime: facts.startTime,
    blockSize: facts.blockSize,
    walSegmentSize: facts.walSegmentSize,
    relationSegmentBlocks: facts.relationSegmentBlocks,
    tablespaceVersionDirectory: facts.tablespaceVersionDirectory,
    bootstrapSuperuser: facts.bootstrapSuperuser,
    pageChecksums: facts.dataChecksums,
    dataDirectory: analysis.dataDirectory,
    // Those in place (allow_in_place_tablespaces) are directories like others, and nothing links to them.
    tablespaces: facts.tablespaces
      .filter(each => isAbsolute(each.path))
      .map(({ oid, name, path }) => ({ oid, name, path })),
    databases: facts.databases.map(each => each.name),
    tables: analysis.summary.tables,
    indexes: analysis.summary.indexes,
    estimatedRows: analysis.summary.estimatedRows,
    sizeBytes: copied.assembler.copiedBytes,
    storedBytes: copied.packs
      .filter(pack => pack.backup === made.id)
      .reduce((sum, pack) => sum + pack.sizeBytes, 0),
    newBytes: copied.assembler.newBytes,
    fileCount: copied.assembler.fileCount,
    compression: formatCompression(context.level),
    durationSeconds: made.seconds,
    logIncluded: copied.log.included,
    logArchived: copied.log.archived,
    damagedPages: copied.assembler.damaged.slice(0, 1000),
  };
}

/** What needs attention although the backup is good. */
export function problemsOf(copied: Copied): string[] {
  const problems: string[] = [];
  if (copied.log.problem !== null) problems.push(copied.log.problem);
  const [first] = copied.assembler.damaged;
  if (first !== undefined) {
    problems.push(
      `${copied.assembler.damaged.length} pages of the database are damaged on the server's own disk (first: block ${first.block} of ${first.path}): the backup has them as they are. Keep older backups, and look at the server's storage.`,
    );
  }
  return problems;
}

function typeOf(increment: Increment | null): Pick<BackupFacts, 'type' | 'parent' | 'changesBy'> {
  if (increment === null) return { type: 'full' };
  const { type, parent, changes } = increment;
  return { type, parent: parent.backup.id, changesBy: changes.by };
}
