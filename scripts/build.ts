import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Metafile } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

// Packages in CommonJS call require() for Node's own modules; an ES module has none.
const requireBanner =
  "import aishellModule from 'node:module';const require=aishellModule.createRequire(import.meta.url);";

/**
 * Bundles src/cli/main.ts and every worker into dist/: flat, split into chunks, so that a command loads only its own code.
 * main.js itself stays free of static imports: it must run far enough on an old Node to say what is missing.
 */
export async function buildDist(outdir = join(root, 'dist')): Promise<void> {
  const workers = globSync('src/**/*-worker.ts', { cwd: root }).sort();
  rmSync(outdir, { recursive: true, force: true });
  const result = await build({
    absWorkingDir: root,
    entryPoints: ['src/cli/main.ts', ...workers].map(path => ({ in: path, out: basename(path, '.ts') })),
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    chunkNames: 'chunk-[hash]',
    banner: { js: requireBanner },
    define: { AISHELL_VERSION: JSON.stringify(packageVersion()) },
    external: ['pg-native'],
    // Only whitespace and syntax: names stay readable in the stack traces that people report.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'eof',
    metafile: true,
    logLevel: 'warning',
  });
  writeFileSync(join(outdir, 'licenses.txt'), licensesOf(result.metafile));
  writeFileSync(join(outdir, 'package.json'), '{ "type": "module" }\n');
}

function packageVersion(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return manifest.version;
}

/** The licence texts of the packages that went into the bundle: most licences ask that they travel with it. */
function licensesOf(metafile: Metafile): string {
  const folders = new Set<string>();
  for (const input of Object.keys(metafile.inputs)) {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match?.[1]) folders.add(join(root, match[1]));
  }
  const texts = [...folders].sort().map(folder => {
    const manifest: { name: string; version: string; license?: string } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    );
    const file = globSync('{LICENSE,LICENCE,license}*', { cwd: folder })[0];
    const text =
      file === undefined
        ? 'No licence file in the package.'
        : readFileSync(join(folder, file), 'utf8').trim();
    return `${manifest.name} ${manifest.version} (${manifest.license ?? 'see below'})\n\n${text}\n`;
  });
  return `aishell contains code of these packages.\n\n${texts.join('\n---\n\n')}`;
}

if (import.meta.main) await buildDist();
