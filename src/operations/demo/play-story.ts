import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { formatCount } from '../../base/sizes.ts';
import { connect } from '../../engines/postgres/connection.ts';
import type { RunOptions } from '../instance-context.ts';
import { runAishell, startDemoAgent } from './aishell-command.ts';
import type { DemoSite } from './demo-site.ts';
import { causeDisaster, type Disaster } from './disaster.ts';
import { type FoundDisaster, findDisaster } from './find-disaster.ts';
import { proveRecovery, type TableProof } from './prove-recovery.ts';
import { createShop, openShop, type ShopSizes, shopSizes } from './shop.ts';
import { type ShopWriters, startShopWriters } from './shop-writers.ts';
import { timed } from './timed.ts';
import { type UndoneDisaster, undoDisaster } from './undo-disaster.ts';

/** What happened, all of it measured or counted. */
export interface DemoStory {
  /** `PostgreSQL 18.4` */
  readonly server: string;
  readonly sizes: ShopSizes;
  /** The disaster for the first time: undone. */
  readonly undone: UndoneDisaster;
  /** The same once more: rewound. */
  readonly disaster: Pick<Disaster, 'statement' | 'usersDeleted' | 'ordersLost'>;
  /** The transaction that the timeline names. */
  readonly found: FoundDisaster;
  /** How the data came back. */
  readonly way: string;
  /** Every table at the recovery target and after the restore; they are equal, or the demo fails. */
  readonly tables: readonly TableProof[];
  /** The application's transactions after the target: they are not in the restored state. */
  readonly salesAfterTarget: number;
  readonly seconds: {
    readonly load: number;
    readonly backup: number;
    readonly delete: number;
    /** Until the timeline had named the transaction. */
    readonly find: number;
    readonly restore: number;
    /** From the application's last sale before the restore to its first one after it. */
    readonly outage: number;
  };
}

const WRITERS = 4;
const INSTANCE = 'production';
/** How long the application runs between the backup and the disaster, and before somebody acts on it. */
const GO_ON_MS = 1500;

/** Plays the whole story at a site whose server is not started yet; afterwards the server runs, with all rows back. */
export async function playStory(site: DemoSite, users: number, options: RunOptions): Promise<DemoStory> {
  const sizes = shopSizes(users);
  const loaded = await timed(() => openForBusiness(site, sizes, options));
  await setUp(site, options);
  const agent = await startDemoAgent(site.aishell, options);
  const writers = startShopWriters({
    writers: WRITERS,
    users: sizes.users,
    products: sizes.products,
    connect: () => openShop(site.cluster.connection),
  });
  const message = `${WRITERS} connections of an application sell products from here on, whatever happens.`;
  options.onEvent({ type: 'note', level: 'info', message });
  try {
    const backup = await timed(() =>
      runAishell(site.aishell, ['backup', 'create', '--name', 'hourly'], options),
    );
    await sleep(GO_ON_MS, undefined, { signal: options.signal });
    const first = await loseUsers(site, writers, options);
    const undone = await undoDisaster(site, { disaster: first, writers }, options);
    await sleep(GO_ON_MS, undefined, { signal: options.signal });
    const disaster = await loseUsers(site, writers, options);
    const found = await timed(() => findDisaster(site.aishell, disaster, options));
    writers.holdReconnects();
    const restore = await timed(() => restoreBefore(site, options));
    const salesAfterTarget = writers.counts().committed - disaster.salesBefore;
    const tables = await proveRecovery(site.cluster.connection, { disaster, writers }, options.onEvent);
    return {
      server: loaded.result,
      sizes,
      undone,
      disaster: {
        statement: disaster.statement,
        usersDeleted: disaster.usersDeleted,
        ordersLost: disaster.ordersLost,
      },
      found: found.result,
      way: restore.result,
      tables,
      salesAfterTarget,
      seconds: {
        load: loaded.seconds,
        backup: backup.seconds,
        delete: disaster.seconds,
        find: found.seconds,
        restore: restore.seconds,
        outage: await outageSeconds(writers, options.signal),
      },
    };
  } finally {
    await writers.stop();
    await agent.stop();
  }
}

async function openForBusiness(
  site: DemoSite,
  sizes: ShopSizes,
  { onEvent, signal }: RunOptions,
): Promise<string> {
  const { cluster } = site;
  await cluster.start();
  signal.throwIfAborted();
  const administrator = await connect(cluster.connection, { applicationName: 'demo', signal });
  try {
    await administrator.query('create database shop');
    const { rows } = await administrator.query<{ version: string }>(
      "select current_setting('server_version') as version",
    );
    const detail = `${formatCount(sizes.users)} users, ${formatCount(sizes.orders)} orders, ${formatCount(sizes.products)} products`;
    await runStep(onEvent, { id: 'demo-load', title: 'Filled a shop', detail: () => detail }, () =>
      load(site, sizes),
    );
    return `PostgreSQL ${rows[0]?.version.split(' ')[0]}`;
  } finally {
    await administrator.end();
  }
}

async function load(site: DemoSite, sizes: ShopSizes): Promise<void> {
  const session = await openShop(site.cluster.connection);
  try {
    await createShop(session, sizes);
  } finally {
    await session.end();
  }
}

async function setUp(site: DemoSite, options: RunOptions): Promise<void> {
  const { host, port, user } = site.cluster.connection;
  const url = `postgresql://${user}@${host}:${port}/postgres`;
  const args = ['backup', 'init', url, '--storage', site.repositoryDirectory, '--name', INSTANCE];
  await runAishell(site.aishell, args, options);
}

async function loseUsers(
  site: DemoSite,
  writers: ShopWriters,
  { onEvent, signal }: RunOptions,
): Promise<Disaster> {
  const step = {
    id: 'demo-disaster',
    title: 'Somebody runs DELETE FROM users WHERE 1=1',
    detail: ({ usersDeleted }: Disaster) => `${formatCount(usersDeleted)} rows affected`,
  };
  const disaster = await runStep(onEvent, step, () => causeDisaster(site.cluster.connection, writers));
  const before = writers.counts();
  await sleep(GO_ON_MS, undefined, { signal });
  const after = writers.counts();
  onEvent({
    type: 'facts',
    topic: '😱 The disaster',
    facts: {
      usersLost: disaster.usersDeleted,
      ordersLostWithThem: disaster.ordersLost,
      salesTriedSince: after.committed - before.committed,
      salesThatFoundNoCustomer: after.withoutCustomer - before.withoutCustomer,
    },
  });
  return disaster;
}

/** @returns how it came back: `rewind` or `full` */
async function restoreBefore(site: DemoSite, options: RunOptions): Promise<string> {
  const confirmed = ['--confirm', `restore ${INSTANCE}`, '--yes'];
  // By itself it would choose what is quicker, and a database of this size is copied in a second.
  const args = [
    'backup',
    'restore',
    '--point-in-time',
    'before the last delete on users',
    '--rewind',
    ...confirmed,
  ];
  const result = await runAishell(site.aishell, args, options);
  return typeof result.way === 'object' && result.way !== null && 'kind' in result.way
    ? String(result.way.kind)
    : '';
}

async function outageSeconds(writers: ShopWriters, signal: AbortSignal): Promise<number> {
  for (let waitedMs = 0; waitedMs < 10_000; waitedMs += 20) {
    const outageMs = writers.outageMs();
    if (outageMs !== null) return outageMs / 1000;
    await sleep(20, undefined, { signal });
  }
  throw new AppError(
    'VERIFICATION_FAILED',
    'unable to sell anything after the restore: the application stays out',
  );
}
