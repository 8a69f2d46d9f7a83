import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import { formatCount, formatSeconds } from '../../base/sizes.ts';
import type { Incident } from '../incident/incident.ts';
import type { RunOptions } from '../instance-context.ts';
import type { UndoReport } from '../undo/undo-report.ts';
import { runAishell } from './aishell-command.ts';
import type { DemoSite } from './demo-site.ts';
import type { Disaster } from './disaster.ts';
import { fingerprintOrders, fingerprintShop, openShop, soldProducts } from './shop.ts';
import type { ShopWriters } from './shop-writers.ts';
import { timed } from './timed.ts';

/** How a disaster was noticed, stopped and undone while the server stayed open. */
export interface UndoneDisaster {
  readonly usersBack: number;
  readonly ordersBack: number;
  /** The application's sales between the disaster and its undo: all of them are still there. */
  readonly salesKept: number;
  /** Where the rows came from: `snapshot` or `side instance`. */
  readonly source: string;
  readonly seconds: {
    /** From the start of the DELETE until the agent had noticed it. */
    readonly noticed: number;
    /** How long that was before the answer to its COMMIT; negative: behind it. */
    readonly beforeAnswer: number;
    readonly stop: number;
    readonly undo: number;
  };
}

const NOTICE_MS = 30_000;

/**
 * The disaster as the agent sees it: noticed, its rows held, writes stopped and let in again, its rows undone while the
 * application goes on.
 *
 * @throws VERIFICATION_FAILED when it was not noticed, or something is not what it was, or a later sale is gone
 */
export async function undoDisaster(
  site: DemoSite,
  story: { readonly disaster: Disaster; readonly writers: ShopWriters },
  options: RunOptions,
): Promise<UndoneDisaster> {
  const { disaster } = story;
  const incident = await noticed(site, disaster, options);
  const stop = await timed(() => runAishell(site.aishell, ['emergency', 'stop-writes', '--yes'], options));
  await runAishell(site.aishell, ['emergency', 'resume-writes'], options);
  const undo = await timed(() => runAishell(site.aishell, ['backup', 'undo', incident.id, '--yes'], options));
  const salesKept = await proveUndone(site, story, options.onEvent);
  const report = undo.result as unknown as UndoReport;
  const detectedMs = Date.parse(incident.detectedAt);
  return {
    usersBack: disaster.usersDeleted,
    ordersBack: disaster.ordersLost,
    salesKept,
    source: report.source.kind,
    seconds: {
      noticed: (detectedMs - disaster.startedMs) / 1000,
      beforeAnswer: (disaster.answeredMs - detectedMs) / 1000,
      stop: stop.seconds,
      undo: undo.seconds,
    },
  };
}

/** The agent's own record of it, once it says that the transaction is committed. */
async function noticed(site: DemoSite, disaster: Disaster, options: RunOptions): Promise<Incident> {
  const step = {
    id: 'demo-noticed',
    title: 'The agent has noticed it',
    detail: (incident: Incident) => describeNoticed(incident, disaster),
  };
  // It is asked until the record is complete; to see it once is enough.
  options.onEvent({ type: 'note', level: 'info', message: '$ aishell incident list' });
  return runStep(options.onEvent, step, async () => {
    const giveUpMs = performance.now() + NOTICE_MS;
    for (;;) {
      const { incidents } = (await runAishell(site.aishell, ['incident', 'list'], {
        ...options,
        onEvent: () => undefined,
      })) as unknown as { readonly incidents: readonly Incident[] };
      const found = incidents.find(({ transaction }) => transaction.outcome === 'committed');
      if (found !== undefined) return found;
      if (performance.now() > giveUpMs)
        throw new AppError('VERIFICATION_FAILED', 'the agent has not noticed that all users are gone');
      await sleep(100, undefined, { signal: options.signal });
    }
  });
}

function describeNoticed(incident: Incident, { startedMs, answeredMs }: Disaster): string {
  const detectedMs = Date.parse(incident.detectedAt);
  const answer = answeredMs - detectedMs;
  const when = `${formatSeconds(Math.abs(answer) / 1000)} ${answer >= 0 ? 'before' : 'after'} its answer`;
  const held = incident.guard.snapshot === null ? 'nothing is held' : 'the old rows are held';
  return `${formatSeconds((detectedMs - startedMs) / 1000)} after its start, ${when}; ${held}`;
}

/** @returns how many sales since the disaster are still there: all of them */
async function proveUndone(
  site: DemoSite,
  story: { readonly disaster: Disaster; readonly writers: ShopWriters },
  onEvent: OnEvent,
): Promise<number> {
  const { disaster, writers } = story;
  const step = {
    id: 'demo-undone',
    title: 'Compared users and orders with what they were, and every sale since',
    detail: (kept: number) => `equal, and all ${formatCount(kept)} sales since are still there`,
  };
  return runStep(onEvent, step, async () => {
    await writers.pause();
    const session = await openShop(site.cluster.connection);
    try {
      const prints = [
        await fingerprintOrders(session, disaster.lastOrder),
        ...(await fingerprintShop(session)).filter(({ table }) => table === 'users'),
      ];
      const different = prints.filter(print => {
        const before = disaster.before.find(({ table }) => table === print.table);
        return before?.rows !== print.rows || before.checksum !== print.checksum;
      });
      if (different.length > 0) {
        throw new AppError(
          'VERIFICATION_FAILED',
          `unable to undo the loss of ${different.map(({ table }) => table).join(', ')}`,
          { details: { before: disaster.before, after: prints } },
        );
      }
      const { committed } = writers.counts();
      // A sale whose connection was ended before it heard of it counts for the server alone.
      if ((await soldProducts(session)) < committed)
        throw new AppError('VERIFICATION_FAILED', 'sales that came after the disaster are gone');
      return committed - disaster.salesBefore;
    } finally {
      writers.resume();
      await session.end();
    }
  });
}
