import { runningServer } from './data-directory.ts';
import type { Service, ServiceSetting } from './service-contract.ts';
import { START_TIMEOUT_MS, STOP_TIMEOUT_MS, startWith, stopWith } from './service-process.ts';

/** The server is started and stopped by two commands of the configuration's. */
export function commandsService(
  dataDirectory: string,
  setting: Extract<ServiceSetting, { readonly kind: 'commands' }>,
): Service {
  return {
    kind: 'commands',
    description: 'the configured commands',
    isRunning: async () => (await runningServer(dataDirectory)) !== null,
    stop: async (options = {}) =>
      await stopWith(dataDirectory, ['/bin/sh', '-c', setting.stop], {
        timeoutMs: STOP_TIMEOUT_MS,
        ...options,
        doing: 'stop the server',
      }),
    start: async (options = {}) =>
      await startWith(dataDirectory, ['/bin/sh', '-c', setting.start], {
        timeoutMs: START_TIMEOUT_MS,
        ...options,
        doing: 'start the server',
      }),
    startCommand: setting.start,
    stopCommand: setting.stop,
  };
}
