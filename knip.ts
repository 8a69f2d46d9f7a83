import type { KnipConfig } from 'knip';

export default {
  entry: ['src/cli/main.ts', 'src/cli/program.ts', 'src/**/*-worker.ts', 'scripts/*.ts', 'test/**/*.test.ts'],
  project: ['src/**/*.ts', 'scripts/**/*.ts', 'bench/**/*.ts', 'test/**/*.ts'],
  // Of the system, run by tests.
  ignoreBinaries: ['mkfifo', 'mount', 'script', 'umount', 'unshare'],
  ignoreExportsUsedInFile: true,
} satisfies KnipConfig;
