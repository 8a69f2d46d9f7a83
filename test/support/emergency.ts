import type { EmergencyStatus } from '../../src/operations/emergency/emergency-status.ts';
import type { ResumeReport } from '../../src/operations/emergency/resume-writes.ts';
import type { StopReport } from '../../src/operations/emergency/stop-report.ts';
import type { CliResult } from './cli.ts';
import { resultOf, type TestInstance } from './instance.ts';

/** The result of a run that may have problems: exit code 0 or 3. */
export function reportOf<T>(done: CliResult): T {
  const last = done.json.at(-1);
  if (last?.type === 'result') return last.result as T;
  throw new Error(`exit ${done.exitCode ?? done.signal}\n${done.stdout}\n${done.stderr}`);
}

export const stopArgs = (...args: string[]): string[] => ['emergency', 'stop-writes', '--yes', ...args];

export async function stopWrites(instance: TestInstance, ...args: string[]): Promise<StopReport> {
  return reportOf(await instance.run(stopArgs(...args)));
}

/** Fails when there are problems. */
export async function resumeWrites(instance: TestInstance): Promise<ResumeReport> {
  return resultOf(await instance.run(['emergency', 'resume-writes']));
}

export async function emergencyStatus(instance: TestInstance): Promise<EmergencyStatus> {
  return reportOf(await instance.run(['emergency', 'status']));
}
