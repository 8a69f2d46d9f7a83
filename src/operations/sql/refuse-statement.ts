import { AppError } from '../../base/errors.ts';
import type { StatementClass } from '../../engines/postgres/sql/statement-class.ts';
import type { StatementRun } from './statement-run.ts';

/** Kinds that a read-only console sends; the server keeps its session read-only besides. */
const readingKinds: readonly StatementClass['kind'][] = ['read', 'lock', 'setting', 'transaction'];

/** What is not sent to the server at all. @throws STATEMENT_REFUSED */
export function refuseStatement({
  found,
  settings,
  dryRun,
}: Pick<StatementRun, 'found' | 'settings' | 'dryRun'>): void {
  if (found.refusal !== null) throw refused(found, found.refusal);
  if (settings.readOnly) refuseWrite(found);
  if (!dryRun) return;
  const [lasting] = found.lasting;
  if (lasting !== undefined) throw refused(found, `a dry run would not be one: ${lasting}`);
  if (found.outside)
    throw refused(found, 'PostgreSQL does not run it inside a transaction, so it cannot be taken back');
  if (found.control === 'prepare')
    throw refused(found, 'a dry run ends with its session, and this would not');
}

function refuseWrite(found: StatementClass): void {
  const why = 'this console is read-only (--read-only)';
  if (!readingKinds.includes(found.kind) || found.control === 'end-prepared' || found.control === 'prepare')
    throw refused(found, why);
  if (found.unlocks) throw refused(found, `${why}, and this would make it writable`);
}

function refused({ command }: StatementClass, why: string): AppError {
  return new AppError('STATEMENT_REFUSED', `unable to run ${command}: ${why}`, {
    hint: 'Nothing was sent to the server.',
  });
}
