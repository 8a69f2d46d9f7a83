import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { delay } from '../base/abort.ts';
import { AppError, toErrorRecord } from '../base/errors.ts';
import { connect, type Session } from '../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import { putIn, type SynchronousPlace, takeOut, wasLeftIn, whereIs } from './synchronous-setting.ts';
import type { WatchdogOrder, WatchdogReport } from './watchdog-protocol.ts';

export interface WatchdogOptions extends SynchronousPlace {
  readonly connection: ConnectionSettings;
  /** After so long without a good word from the agent, commits no longer wait for it. */
  readonly timeoutMs: number;
  readonly orders: Readable;
  readonly report: (report: WatchdogReport) => void;
  /** Whether another agent has begun since this one's died: its own watchdog sees to everything. */
  readonly isSucceeded: () => boolean;
}

const LOOK_MS = 50;
/** Well for so long before commits wait (again). */
const STEADY_MS = 1000;
const VERIFY_MS = 5000;

/**
 * Puts the agent's name into `synchronous_standby_names` while the agent is well, and takes it out when it is not: a
 * process of its own, as one that is stopped or killed cannot do that itself. It keeps its session open, because a server
 * whose commits hang may have no connection left. It ends when the agent is gone and nothing waits for it any more.
 */
export async function runWatchdog(options: WatchdogOptions): Promise<void> {
  const agent = listenTo(options.orders);
  const server = serverSession(options.connection);
  let isIn = wasLeftIn(options);
  /** Not only said by the record that an earlier run left: somebody may have changed the setting since. */
  let isSeen = false;
  let isOverruled = false;
  let verifiedMs = performance.now();
  for (;;) {
    const now = performance.now();
    const isWell = agent.left === null && now - agent.wellMs < options.timeoutMs;
    const isSteady = isWell && agent.steadySinceMs !== null && now - agent.steadySinceMs >= STEADY_MS;
    try {
      if (isIn && !isWell) {
        if (agent.left === 'gone' && options.isSucceeded()) break;
        await takeOut(await server.client(), options);
        isIn = false;
        isSeen = false;
        options.report({ state: 'off' });
      } else if (!isIn && isSteady && !isOverruled) {
        const refused = await putIn(await server.client(), options).catch(refusal);
        if (refused !== undefined) {
          options.report({ refused });
          break;
        }
        isIn = true;
        isSeen = true;
        options.report({ state: 'on' });
      } else if (isIn && (!isSeen || now - verifiedMs > VERIFY_MS)) {
        verifiedMs = now;
        const where = await whereIs(await server.client(), options);
        isIn = where === 'in';
        // What was changed while no agent ran counted until this one was started.
        isOverruled = isSeen && where === 'overruled';
        if (isIn !== isSeen)
          options.report({ state: isIn ? 'on' : 'off', ...(isOverruled ? { overruled: true } : {}) });
        isSeen = isIn;
      }
      if (agent.left !== null && !isIn) break;
    } catch {
      // The server is down, where no commit waits, or has no connection left yet: so it is tried until it answers.
      server.drop();
    }
    await delay(LOOK_MS);
  }
  server.drop();
  // An open input would keep the process alive.
  options.orders.destroy();
}

/** What another attempt does not cure; everything else is thrown. */
function refusal(error: unknown): Extract<WatchdogReport, { refused: unknown }>['refused'] {
  if (!(error instanceof AppError) || !['UNSUPPORTED', 'DATABASE_DENIED'].includes(error.code)) throw error;
  const { code, message, hint } = toErrorRecord(error);
  return { code, message, ...(hint === undefined ? {} : { hint }) };
}

interface AgentHealth {
  /** When the agent was well last; a new one gets the benefit of the doubt. */
  wellMs: number;
  /** Since when commits could wait for it. */
  steadySinceMs: number | null;
  left: 'gone' | 'ended' | null;
}

function listenTo(orders: Readable): AgentHealth {
  const health: AgentHealth = { wellMs: performance.now(), steadySinceMs: null, left: null };
  const lines = createInterface({ input: orders });
  lines.on('line', line => {
    const order = JSON.parse(line) as WatchdogOrder;
    if ('end' in order) {
      health.left = 'ended';
      return;
    }
    const now = performance.now();
    if (order.ok) health.wellMs = now;
    health.steadySinceMs = order.ok && order.caughtUp ? (health.steadySinceMs ?? now) : null;
  });
  lines.on('close', () => {
    health.left ??= 'gone';
  });
  orders.on('error', () => {
    health.left ??= 'gone';
  });
  return health;
}

/** A session that is kept open, and opened again when it was lost. */
function serverSession(connection: ConnectionSettings): { client(): Promise<Session>; drop(): void } {
  let client: Session | null = null;
  return {
    async client() {
      client ??= await connect(connection, { applicationName: 'aishell watchdog' });
      return client;
    },
    drop() {
      client?.end().catch(() => undefined);
      client = null;
    },
  };
}
