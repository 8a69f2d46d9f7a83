import { copyFileSync, globSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/** PostgreSQL's parser in WebAssembly: libpg-query reads it from beside its own code. */
const sqlGrammar = join(root, 'node_modules/libpg-query/wasm/libpg-query.wasm');

// Packages in CommonJS call require() for Node's own modules; an ES module has none.
const requireBanner =
  "import aishellModule from 'node:module';const require=aishellModule.createRequire(import.meta.url);";

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  // Only whitespace and syntax: names stay readable in the stack traces that people report.
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'eof',
  define: { AISHELL_VERSION: JSON.stringify(packageVersion()) },
  external: ['pg-native'],
  metafile: true,
  logLevel: 'warning',
} as const satisfies BuildOptions;

/**
 * Bundles src/cli/main.ts and what it starts into dist/, which is flat.
 *
 * What PostgreSQL waits for, main and the two commands for log segments, is CommonJS: loading Node's own modules from an
 * ES module reads each of their exports, which loads half of Node (measured: 15 of 65 ms). The program itself is split
 * into chunks, so that a command loads only its own code.
 */
export async function buildDist(target = join(root, 'dist')): Promise<void> {
  // Built beside and renamed: a build that fails leaves the program that was there.
  const outdir = `${target}.${process.pid}.tmp`;
  try {
    await buildInto(outdir);
    rmSync(target, { recursive: true, force: true });
    renameSync(outdir, target);
  } finally {
    rmSync(outdir, { recursive: true, force: true });
  }
}

async function buildInto(outdir: string): Promise<void> {
  const results = await Promise.all([
    build({
      ...common,
      entryPoints: entries(['src/cli/main.ts', 'src/cli/hot/hot-command.ts']),
      outdir,
      format: 'cjs',
      outExtension: { '.js': '.cjs' },
      // Without import(), esbuild writes require(): it needs no second module loader.
      supported: { 'dynamic-import': false },
      plugins: [leaveToDist({ './hot/hot-command.ts': './hot-command.cjs', './program.ts': './program.js' })],
    }),
    build({
      ...common,
      entryPoints: entries(['src/cli/program.ts', ...globSync('src/**/*-worker.ts', { cwd: root }).sort()]),
      outdir,
      format: 'esm',
      splitting: true,
      chunkNames: 'chunk-[hash]',
      banner: { js: requireBanner },
      // A CommonJS package that looks for a file beside itself finds it in dist/, which is flat.
      define: { ...common.define, __dirname: 'import.meta.dirname' },
    }),
  ]);
  copyFileSync(sqlGrammar, join(outdir, basename(sqlGrammar)));
  writeFileSync(join(outdir, 'licenses.txt'), licensesOf(results.map(result => result.metafile)));
  writeFileSync(join(outdir, 'package.json'), '{ "type": "module" }\n');
}

function entries(paths: readonly string[]): { in: string; out: string }[] {
  return paths.map(path => ({ in: path, out: basename(path, '.ts') }));
}

/** Leaves an import in the bundle, under the name its target has in dist/. */
function leaveToDist(names: Readonly<Record<string, string>>): Plugin {
  return {
    name: 'leave-to-dist',
    setup(hooks) {
      hooks.onResolve({ filter: /^\.\// }, ({ path }) => {
        const target = names[path];
        return target === undefined ? null : { path: target, external: true };
      });
    },
  };
}

function packageVersion(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return manifest.version;
}

/** The licence texts of the packages that went into the bundle: most licences ask that they travel with it. */
function licensesOf(metafiles: readonly Metafile[]): string {
  const folders = new Set<string>();
  for (const input of metafiles.flatMap(metafile => Object.keys(metafile.inputs))) {
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
