import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey, nameRelations } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LogView } from '../log/log-view.ts';
import type { ExportedRows } from './export-rows.ts';
import type { LostTable } from './lost-report.ts';
import { operationOf } from './lost-rows.ts';
import type { LostRows } from './read-lost-rows.ts';

type Counts = { -readonly [Name in Exclude<keyof LostTable, 'database' | 'schema' | 'table'>]: number };

const counters = {
  insert: 'inserted',
  update: 'updated',
  delete: 'deleted',
  gone: 'gone',
  'on top': 'onTop',
} as const;

/** Counts lost rows by table, those with the most first. Files of one table count together. */
export async function lostTables(
  context: Pick<InstanceContext, 'repository'>,
  from: {
    readonly view: LogView;
    readonly lost: LostRows;
    /** Null: nothing was exported, so nobody said what the tables are called. */
    readonly exported: ExportedRows | null;
    readonly at: bigint;
  },
  signal: AbortSignal,
): Promise<LostTable[]> {
  const byFile = new Map<string, { readonly file: RelationFile; readonly counts: Counts }>();
  for (const row of from.lost.rows) {
    const key = fileKey(row.relation);
    let known = byFile.get(key);
    if (known === undefined) {
      const unread = from.exported?.unread.get(key) ?? 0;
      known = {
        file: row.relation,
        counts: { inserted: 0, updated: 0, deleted: 0, gone: 0, onTop: 0, unread },
      };
      byFile.set(key, known);
    }
    known.counts[counters[operationOf(row)]] += 1;
  }
  const names = await nameRelations(context, from.view, { signal });
  const tables = new Map<string, LostTable>();
  for (const [key, { file, counts }] of byFile) {
    const shape = from.exported?.shapes.get(key);
    const named = await names.nameOf(file, from.at);
    // TOAST relations of tables that no catalog knows pass for tables until the server is asked.
    if (shape === 'other') continue;
    const label = {
      database: shape?.database ?? named.database ?? `database ${file.database}`,
      schema: shape?.schema ?? named.name?.schema ?? null,
      table: shape?.table ?? named.name?.name ?? `relation ${file.file}`,
    };
    const id = JSON.stringify(label);
    tables.set(id, { ...label, ...sum(tables.get(id), counts) });
  }
  return [...tables.values()].sort((a, b) => total(b) - total(a));
}

function sum(known: LostTable | undefined, counts: Counts): Counts {
  return {
    inserted: counts.inserted + (known?.inserted ?? 0),
    updated: counts.updated + (known?.updated ?? 0),
    deleted: counts.deleted + (known?.deleted ?? 0),
    gone: counts.gone + (known?.gone ?? 0),
    onTop: counts.onTop + (known?.onTop ?? 0),
    unread: counts.unread + (known?.unread ?? 0),
  };
}

function total({ inserted, updated, deleted, gone, onTop }: LostTable): number {
  return inserted + updated + deleted + gone + onTop;
}
