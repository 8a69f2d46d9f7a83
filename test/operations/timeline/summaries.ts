import type { TransactionSummary } from '../../../src/engines/postgres/segment-summary.ts';
import type { RelationFile } from '../../../src/engines/postgres/wal-transactions.ts';
import type { RelationName, RelationNames } from '../../../src/operations/catalog/relation-names.ts';

export const DATABASE = 16_400;

export const fileOf = (file: number, tablespace = 1663): RelationFile => ({
  tablespace,
  database: DATABASE,
  file,
});

/** A committed transaction with as much of it as a test says. */
export function transaction(
  more: Partial<TransactionSummary> & { readonly xid: number },
): TransactionSummary {
  const endLsn = BigInt(more.xid) * 1000n;
  return {
    firstLsn: endLsn - 500n,
    endLsn,
    recordEndLsn: endLsn + 48n,
    outcome: 'commit',
    timeUs: BigInt(more.xid) * 1_000_000n,
    gid: null,
    database: DATABASE,
    rows: [],
    dropped: [],
    created: [],
    ...more,
  };
}

/** Names that do not change: `table` under its file's number, `index` and `toast` as parts of it. */
export function namesOf(
  files: Readonly<
    Record<number, { readonly kind: RelationName['kind']; readonly table: string; readonly rows?: number }>
  >,
): RelationNames {
  const learned = new Map<number, RelationName>();
  return {
    catalogs: 1,
    problems: [],
    databaseOf: async () => 'shop',
    learn: (relation, name) => void learned.set(relation.file, { ...name, relation }),
    async nameOf(relation) {
      const known = files[relation.file];
      const none = { database: 'shop', name: null, table: null, partitionOf: null, estimatedRows: null };
      if (relation.file < 16_384) return { ...none, relation, kind: 'system' };
      if (known === undefined) return learned.get(relation.file) ?? { ...none, relation, kind: 'unknown' };
      const isPart = known.kind === 'index' || known.kind === 'toast';
      return {
        relation,
        database: 'shop',
        kind: known.kind,
        name: { schema: 'public', name: isPart ? `${known.table}_part` : known.table },
        table: isPart ? { schema: 'public', name: known.table } : null,
        partitionOf: null,
        estimatedRows: known.rows ?? null,
      };
    },
  };
}
