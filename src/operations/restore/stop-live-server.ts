import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import type { RunOptions } from '../instance-context.ts';
import type { LiveInstance } from './live-instance.ts';

/** Stops the live server, if it runs; its clients are disconnected, and a checkpoint is written. */
export async function stopLiveServer(
  live: LiveInstance,
  service: Service,
  options: RunOptions,
): Promise<void> {
  if (!live.running) return;
  await runStep(
    options.onEvent,
    { id: 'stop', title: 'Server stopped', detail: () => service.description },
    () => service.stop({ mode: 'fast', signal: options.signal }),
  );
}

/** Whatever ended a restore, a person is told the way on; a cancelled run stays cancelled. */
export function withHint(error: unknown, hint: string, { onEvent }: Pick<RunOptions, 'onEvent'>): unknown {
  if (!(error instanceof AppError)) {
    onEvent({ type: 'note', level: 'warning', message: hint });
    return error;
  }
  return new AppError(error.code, error.message, {
    hint: `${error.hint === undefined ? '' : `${error.hint} `}${hint}`,
    cause: error,
    ...(error.details === undefined ? {} : { details: error.details }),
  });
}
