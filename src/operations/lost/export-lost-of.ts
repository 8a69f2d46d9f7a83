import { AppError } from '../../base/errors.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import type { RestoreReport } from '../restore/restore-report.ts';
import { exportLost } from './export-lost.ts';
import type { LostRequest } from './export-lost-request.ts';
import type { LostReport } from './lost-report.ts';

/** Exports what a restore that was made has lost. It succeeded: a failure here is told, with the command that tries it again. */
export async function exportLostOf(
  context: InstanceContext,
  report: RestoreReport,
  request: Pick<LostRequest, 'output' | 'format'>,
  options: RunOptions,
): Promise<{ readonly exported: LostReport | null; readonly problems: readonly string[] }> {
  const { lsn, firstDropped, isBefore } = report.target;
  if (lsn === null) return { exported: null, problems: [] };
  const excluded = isBefore && firstDropped !== null ? [firstDropped.xid] : [];
  try {
    const exported = await exportLost(
      context,
      {
        target: { kind: 'lsn', lsn: parseLsn(lsn) },
        timeline: report.timeline,
        ...{ toUs: null, workDirectory: null, dryRun: false, excluded },
        ...request,
      },
      options,
    );
    return { exported, problems: [] };
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof AppError)) throw error;
    const command = shellCommand([
      ...['aishell', 'backup', 'lost', '--lsn', lsn, '--timeline', String(report.timeline)],
      ...excluded.flatMap(xid => ['--exclude-xid', String(xid)]),
      ...['--format', request.format, '--output', request.output],
    ]);
    return {
      exported: null,
      problems: [`what is lost was not exported: ${error.message}; to try it again: ${command}`],
    };
  }
}
