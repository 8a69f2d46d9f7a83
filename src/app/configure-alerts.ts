import { realpath, stat } from 'node:fs/promises';
import { fileError } from '../base/errors.ts';
import type { AlertChanges } from '../config/alert-changes.ts';
import { withAlertChanges } from '../config/edit-alerts.ts';
import { parseConfig } from '../config/parse-config.ts';
import { readConfigText } from '../config/read-config-text.ts';
import { replaceFile } from '../config/write-config.ts';
import { findAlertingProblems } from '../notify/alerting-status.ts';
import { openAlerting } from './open-alerting.ts';

/** A change of aishell.yaml that is worked out and checked, and not written yet. */
export interface PlannedAlerts {
  readonly file: string;
  readonly before: string;
  readonly after: string;
  readonly channels: readonly string[];
  /** What is wrong although the file is correct: nobody hears of something. */
  readonly problems: readonly string[];
}

/** Works the changes out. @throws CONFIG, EXISTS, CHANNEL_NOT_FOUND; nothing is written */
export function planAlerts(file: string, changes: AlertChanges, env: NodeJS.ProcessEnv): PlannedAlerts {
  const before = readConfigText(file);
  // What is wrong already is told as it is in the file, not as it would be after the change.
  parseConfig(before, file);
  const after = withAlertChanges(before, changes);
  const alerting = openAlerting(parseConfig(after, file), env);
  return {
    file,
    before,
    after,
    channels: alerting.channels.map(({ name }) => name),
    problems: findAlertingProblems(alerting),
  };
}

/** Writes it, keeping mode and owner of the file, and the file as it was beside it. @throws FILE_FAILED, DISK_FULL */
export async function writeAlerts({
  file,
  before,
  after,
}: PlannedAlerts): Promise<{ readonly previous: string }> {
  const found = await realpath(file)
    .then(async path => ({ path, facts: await stat(path) }))
    .catch((error: unknown) => {
      throw fileError('write', file, error);
    });
  const { uid, gid, mode } = found.facts;
  const owner = process.getuid?.() === 0 ? { uid, gid } : null;
  const kept = { mode: mode & 0o777, owner };
  const previous = `${found.path}.previous`;
  await replaceFile(previous, before, kept);
  await replaceFile(found.path, after, kept);
  return { previous };
}
