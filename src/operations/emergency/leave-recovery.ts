import { AppError, assert } from '../../base/errors.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { inspectDataDirectory, runningServer } from '../../engines/postgres/data-directory.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { readStandbySignal, removeStandbySignal } from '../../engines/postgres/standby-signal.ts';
import { readFileSettings } from '../../engines/postgres/write-controls.ts';
import { openControl } from './control-session.ts';
import type { LocalServer } from './plan-strict.ts';
import { noteOutcome, putBackServer, type ResumeRun } from './put-back.ts';
import { type StandbySignalChange, stopMark } from './stop-record.ts';
import { type EmergencyRun, runEmergencyStep } from './stop-run.ts';

/**
 * Takes the server out of recovery mode, from the file system alone where it must: it may be stopped, be in recovery, or
 * never have got there. It goes on where it stood, on the same timeline, as nothing was promoted.
 *
 * @throws SYSTEM_MISMATCH FILE_FAILED SERVICE_FAILED EXISTS the signal is somebody else's
 */
export async function leaveRecovery(run: ResumeRun): Promise<void> {
  const local = await findRecorded(run);
  const mark = stopMark(run.record);
  const signal = await readStandbySignal(local.dataDirectory, mark);
  const mode = await modeOf(local.dataDirectory);
  // Settings that count only after a restart are put back before it, where the server lets us in: ALTER SYSTEM is one of
  // the few things that it does in recovery.
  if (mode !== 'stopped') {
    await putBackSettings(run).catch((error: unknown) => {
      if (mode === 'primary' || !(error instanceof AppError && error.code === 'DATABASE_UNREACHABLE'))
        throw error;
    });
  }
  await runEmergencyStep(run, { id: 'standby-signal', title: 'Recovery mode no longer ordered' }, () =>
    removeStandbySignal(local.dataDirectory, mark),
  );
  noteOutcome(run, { change: signalOf(run), outcome: signal === 'ours' ? 'restored' : 'unchanged' });
  // One that never got into recovery, or was promoted, takes writes: there is no need to interrupt it.
  if (mode === 'primary') return;
  await restart(run, local);
  const waiting = await putBackSettings(run);
  if (waiting.length > 0) await restart(run, local);
}

async function restart(run: EmergencyRun, local: LocalServer): Promise<void> {
  const { signal } = run.options;
  await runEmergencyStep(run, { id: 'stop-server', title: 'Server stopped' }, () =>
    local.service.stop({ mode: 'fast', signal }),
  );
  await runEmergencyStep(run, { id: 'start-server', title: 'Server started' }, () =>
    local.service.start({ signal }),
  );
}

/** The settings that wait for a restart then. */
async function putBackSettings(run: ResumeRun): Promise<string[]> {
  await using control = await openControl(run.context, { known: run.record.controlDatabase });
  await putBackServer(run, control, 'settings');
  const names = run.record.changes.flatMap(change => (change.kind === 'setting' ? [change.name] : []));
  return (await readFileSettings(control.client)).pending.filter(name => names.includes(name));
}

async function modeOf(dataDirectory: string): Promise<'stopped' | 'recovery' | 'primary'> {
  if ((await runningServer(dataDirectory)) === null) return 'stopped';
  const { state } = await readControlFile(dataDirectory);
  return state === 'in production' ? 'primary' : 'recovery';
}

function signalOf(run: EmergencyRun): StandbySignalChange {
  const change = run.record.changes.find(each => each.kind === 'standby-signal');
  assert(change !== undefined, 'a strict stop has recorded its signal');
  return change;
}

/** The files of the server that the record is of, which must be on this machine. */
async function findRecorded(run: EmergencyRun): Promise<LocalServer> {
  const { context, record } = run;
  const change = signalOf(run);
  const { path } = await inspectDataDirectory(change.dataDirectory).catch((error: unknown) => {
    throw new AppError(
      'FILE_FAILED',
      `unable to take the server out of recovery mode: '${change.dataDirectory}' is not in reach`,
      {
        hint: `Run it on ${record.by.host}, the machine of the server.`,
        cause: error,
      },
    );
  });
  const control = await readControlFile(path);
  if (control.systemIdentifier !== record.systemIdentifier) {
    throw new AppError(
      'SYSTEM_MISMATCH',
      `the record of stopped writes is of system ${record.systemIdentifier}, and '${path}' is ${control.systemIdentifier}`,
      { hint: 'Nothing was changed.' },
    );
  }
  const service = await detectService(path, { setting: context.service, binaries: context.binaries });
  return { dataDirectory: path, service };
}
