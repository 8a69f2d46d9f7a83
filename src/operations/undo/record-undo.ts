import { formatCount } from '../../base/sizes.ts';
import type { Incident } from '../incident/incident.ts';
import { updateIncident } from '../incident/incident-store.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { UndoReport } from './undo-report.ts';

/**
 * Writes into the incident what was undone. When everything is back, of all tables, it is resolved, and whoever holds a snapshot for it lets
 * that go; otherwise it stays open, so that the old rows can still be looked at.
 */
export async function recordUndo(
  context: InstanceContext,
  incident: Incident,
  report: UndoReport,
  signal: AbortSignal,
): Promise<void> {
  const at = new Date().toISOString();
  const text = describeUndone(report);
  const isWhole = report.problems.length === 0 && report.others.length === 0;
  await updateIncident(
    context,
    incident.id,
    known => ({
      ...known,
      events: [...known.events, { at, event: 'undone', text }],
      ...(isWhole && known.status === 'open' ? { status: 'resolved' as const, resolution: text } : {}),
    }),
    { signal },
  );
}

/** `3,199,999 of 3,200,000 rows are back: …`. */
function describeUndone({ tables, undone, others }: UndoReport): string {
  const back = (undone ?? []).reduce((sum, each) => sum + each.proof.rows, 0);
  const destroyed = tables.reduce((sum, each) => sum + each.destroyed, 0);
  const left = tables
    .flatMap(each => each.left.map(one => `${formatCount(one.rows)} ${one.reason} in ${each.table}`))
    .join(', ');
  const rest = others.length === 0 ? '' : `; not asked for: ${others.join(', ')}`;
  return `${formatCount(back)} of ${formatCount(destroyed)} rows are back${left === '' ? '' : `; left: ${left}`}${rest}`;
}
