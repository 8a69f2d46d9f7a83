// Makes build/package: what is published (`npm run package`). Everything is bundled, so it has no dependencies at all, and
// it carries neither PostgreSQL nor Node.
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDist } from './build.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

interface Manifest {
  readonly files: readonly string[];
  readonly [name: string]: unknown;
}

/** Writes the package into an empty directory. */
export async function makePackage(outdir: string): Promise<void> {
  rmSync(outdir, { recursive: true, force: true });
  mkdirSync(outdir, { recursive: true });
  const manifest: Manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const path of manifest.files) {
    if (path !== 'dist' && existsSync(join(root, path)))
      cpSync(join(root, path), join(outdir, path), { recursive: true });
  }
  chmodSync(join(outdir, 'bin', 'aishell'), 0o755);
  await buildDist(join(outdir, 'dist'));
  const published = Object.fromEntries(
    Object.entries(manifest).filter(([name]) => publishedFields.has(name)),
  );
  writeFileSync(join(outdir, 'package.json'), `${JSON.stringify(published, null, 2)}\n`);
}

const publishedFields = new Set([
  'name',
  'version',
  'description',
  'license',
  'type',
  'engines',
  'bin',
  'files',
  'repository',
  'keywords',
]);

if (import.meta.main) {
  const outdir = join(root, 'build', 'package');
  await makePackage(outdir);
  process.stdout.write(`${outdir}\n`);
}
