import { AppError } from '../../base/errors.ts';
import type { InstanceContext } from '../instance-context.ts';
import { secureRunningLog } from '../log/secure-live-log.ts';
import { locateInstance } from '../restore/live-instance.ts';

const LOG_TIMEOUT_MS = 30_000;

/**
 * Does something that looks into the archived log. Where that does not reach far enough, what the server has written up to now
 * is archived first, and it is done again.
 */
export async function withLog<T>(
  context: InstanceContext,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AppError) || !['LOG_NOT_FOUND', 'TARGET_UNREACHABLE'].includes(error.code))
      throw error;
    const live = await locateInstance(context, signal).catch((cause: unknown) => {
      if (cause instanceof AppError) return null;
      throw cause;
    });
    if (live === null || !live.answers || !live.archiving || live.inRecovery) throw error;
    const owner = { instance: context.instance, systemIdentifier: live.systemIdentifier };
    await secureRunningLog(context, owner, { timeoutMs: LOG_TIMEOUT_MS, signal }).catch((denied: unknown) => {
      throw denied instanceof AppError && denied.code === 'DATABASE_DENIED' ? error : denied;
    });
    return await work();
  }
}
