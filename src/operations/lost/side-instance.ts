import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { type IsolatedServer, startIsolatedServer } from '../../engines/postgres/isolated-server.ts';
import { endedBeforeTarget, findLogDamage } from '../../engines/postgres/isolated-server-log.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import { fedRecoverySettings, recoverySettings } from '../../engines/postgres/recovery-settings.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { writeOwned } from '../restore/assemble-directory.ts';
import type { LogFeeder } from '../restore/log-feeder.ts';
import { proveFiles } from '../side/prove-files.ts';
import { feedSide, type RestoredSide, restoreSide } from '../side/restore-side.ts';

/** A server in isolation on a restored directory, which is read at one moment after the other. */
export interface SideInstance extends AsyncDisposable {
  /**
   * Replays the log up to a position, and stays there, readable. Moments are visited in their order.
   * @throws RECOVERY_FAILED, and what the log could not be fetched for
   */
  goTo(moment: SideMoment, options: RunOptions): Promise<IsolatedServer>;
}

export interface SideMoment {
  readonly lsn: bigint;
  /** The record that starts there too. */
  readonly isInclusive: boolean;
}

/**
 * Restores what is needed of a backup. Dispose of it, then remove the directory.
 *
 * @param from.plan its log files lead to the last moment that will be visited
 * @param from.databases numbers of those that will be read
 */
export async function openSideInstance(
  context: InstanceContext,
  from: Parameters<typeof restoreSide>[1] & { readonly databases: readonly number[] },
  options: RunOptions,
): Promise<SideInstance> {
  const side = await restoreSide(context, from, options);
  const { layout, owner } = side;
  await writeOwned(join(layout.dataDirectory, 'standby.signal'), '', owner);
  await rm(join(layout.dataDirectory, 'recovery.signal'), { force: true });
  return new Side({ ...side, databases: from.databases }, feedSide(context, side, options));
}
/** A server that has complained of the log and stays where it is for so long has met damage. */
const STUCK_MS = 3000;

/** All of the log is there, and one segment of it takes longer than this: no more comes. */
const SEGMENT_LIMIT_MS = 120_000;

function endsBefore(lsn: bigint, cause?: unknown): AppError {
  return new AppError('RECOVERY_FAILED', `the log ends before ${formatLsn(lsn)}`, { cause });
}

async function refuseDamage(server: IsolatedServer, failed: AbortController): Promise<void> {
  const damage = findLogDamage(await server.readLog().catch(() => ''));
  if (damage !== null) failed.abort(new AppError('RECOVERY_FAILED', `the log is damaged: ${damage}`));
}

class Side implements SideInstance {
  readonly #side: RestoredSide & { readonly databases: readonly number[] };
  readonly #feeder: LogFeeder;
  #server: IsolatedServer | null = null;

  constructor(side: RestoredSide & { readonly databases: readonly number[] }, feeder: LogFeeder) {
    this.#side = side;
    this.#feeder = feeder;
  }

  async goTo({ lsn, isInclusive }: SideMoment, options: RunOptions): Promise<IsolatedServer> {
    const { plan, layout, binaries, files, databases } = this.#side;
    await this.#feeder.firstFed;
    await this.#server?.stop('fast');
    const server = await startIsolatedServer({
      dataDirectory: layout.dataDirectory,
      binaries,
      superuser: plan.backup.bootstrapSuperuser,
      disposable: true,
      settings: {
        ...this.#side.settings,
        ...recoverySettings({
          target: { kind: 'lsn', lsn: formatLsn(lsn), inclusive: isInclusive },
          timeline: plan.timeline,
          action: 'pause',
          restoreCommand: '',
        }),
        ...fedRecoverySettings,
      },
      signal: options.signal,
    });
    this.#server = server;
    await this.#untilThere(server, lsn, options);
    await proveFiles(server, files, databases, options.signal);
    return server;
  }

  async #untilThere(server: IsolatedServer, lsn: bigint, options: RunOptions): Promise<void> {
    const failed = new AbortController();
    let isFed = false;
    this.#feeder.allFed.then(
      () => {
        isFed = true;
      },
      (error: unknown) => failed.abort(error),
    );
    const signal = AbortSignal.any([options.signal, failed.signal]);
    let at: string | null = null;
    let movedAt = performance.now();
    const onProgress = ({ segment }: { readonly segment: string | null }): void => {
      if (segment !== at) movedAt = performance.now();
      at = segment;
      this.#feeder.replaying(segment);
      // It would wait for better log as long as for more.
      const stuckMs = performance.now() - movedAt;
      if (stuckMs > STUCK_MS) void refuseDamage(server, failed);
      if (isFed && stuckMs > SEGMENT_LIMIT_MS) failed.abort(endsBefore(lsn));
    };
    try {
      const { state } = await server.waitForTarget({ signal, onProgress });
      if (state === 'paused') return;
      throw new AppError('RECOVERY_FAILED', `the server beside the instance is ${state} instead of paused`);
    } catch (error) {
      if (!endedBeforeTarget(error)) throw error;
      throw endsBefore(lsn, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.stop('immediate');
    await this.#feeder[Symbol.asyncDispose]();
  }
}
