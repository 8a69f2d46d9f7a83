import { AppError, assert, messageOf } from '../../base/errors.ts';
import {
  readStandbySignal,
  removeStandbySignal,
  writeStandbySignal,
} from '../../engines/postgres/standby-signal.ts';
import { setTo } from '../../engines/postgres/write-controls.ts';
import { openControl } from './control-session.ts';
import { stopMark } from './stop-record.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';

/**
 * Restarts the server in recovery mode, in which nobody can write. The file that makes it so is written while the server
 * still runs: whenever it is started after that, by whomever, it starts in recovery.
 */
export async function restartInRecovery(run: StopRun): Promise<void> {
  const { local, record, options } = run;
  assert(local !== null, 'a strict stop knows its server');
  const { dataDirectory, service } = local;
  const mark = stopMark(record);
  await runEmergencyStep(run, { id: 'recovery-settings', title: 'Settings for recovery mode' }, async () => {
    for (const change of record.changes)
      if (change.kind === 'setting') await setTo(run.control.client, change, 'during');
  });
  await runEmergencyStep(run, { id: 'standby-signal', title: 'Recovery mode ordered' }, async () => {
    // A run that was cut short may have left it.
    if ((await readStandbySignal(dataDirectory, mark)) !== 'ours')
      await writeStandbySignal(dataDirectory, mark);
  });
  await runEmergencyStep(run, { id: 'stop-server', title: 'Server stopped' }, () =>
    service.stop({ mode: 'fast', signal: options.signal }),
  );
  await runEmergencyStep(run, { id: 'start-server', title: 'Server started in recovery mode' }, async () => {
    try {
      await service.start({ signal: options.signal });
    } catch (error) {
      throw await startAsBefore(run, error);
    }
  });
  await run.control[Symbol.asyncDispose]();
  run.control = await openControl(run.context, { known: record.controlDatabase });
}

/** A server that does not start in recovery must at least be there again: read-only, as level soft has it. */
async function startAsBefore(run: StopRun, why: unknown): Promise<AppError> {
  const { dataDirectory, service } = run.local!;
  try {
    await removeStandbySignal(dataDirectory, stopMark(run.record));
    await service.start();
  } catch (error) {
    return new AppError('SERVICE_FAILED', `unable to start the server in recovery mode: ${messageOf(why)}`, {
      hint: `It could not be started as before either (${messageOf(error)}). See its log, then: ${service.startCommand}`,
      cause: why,
    });
  }
  return new AppError('SERVICE_FAILED', `unable to start the server in recovery mode: ${messageOf(why)}`, {
    hint: 'It runs again as before, read-only as at level soft; its log says why it did not start in recovery.',
    cause: why,
  });
}
