// Only Node's own modules are imported here, as defaults, and nothing newer than a dynamic import is used: an old Node
// must get far enough to read the sentence below instead of a syntax error.
import fs from 'node:fs';
import nodeModule from 'node:module';
import path from 'node:path';

const oldestNode = 24;

async function main(): Promise<void> {
  const version = process.versions.node;
  if (Number.parseInt(version, 10) < oldestNode) {
    process.stderr.write(
      `error: unable to start aishell: it needs Node.js ${oldestNode} or newer, and this is ${version}\n` +
        `  hint: ${process.execPath} was used. Install a newer Node.js, or set AISHELL_NODE to the path of one.\n`,
    );
    process.exitCode = 2;
    return;
  }
  const cache = compileCacheDirectory();
  if (cache !== null) nodeModule.enableCompileCache(cache);
  const args = process.argv.slice(2);
  // PostgreSQL runs these for every segment, and waits: they load neither the command line parser nor the schema.
  if (args.some(arg => ['wal-archive', 'wal-archive-ahead', 'wal-fetch'].includes(arg))) {
    const { runHotCommand } = await import('./hot/hot-command.ts');
    const exitCode = await runHotCommand(args, cache);
    if (exitCode !== null) {
      process.exitCode = exitCode;
      return;
    }
  }
  const { runProgram } = await import('./program.ts');
  process.exitCode = await runProgram(args);
}

/**
 * Where compiled code may be kept between runs, or null. It is code that will be run: so only in a folder that is the
 * user's own and nobody else can write, and under sudo, where HOME is another's, nowhere.
 */
function compileCacheDirectory(): string | null {
  const user = process.geteuid?.();
  const home = process.env.HOME;
  if (user === undefined || home === undefined || !path.isAbsolute(home)) return null;
  try {
    if (fs.statSync(home).uid !== user) return null;
    const folder = path.join(home, '.cache', 'aishell');
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const found = fs.lstatSync(folder);
    return found.isDirectory() && found.uid === user && (found.mode & 0o022) === 0 ? folder : null;
  } catch {
    // A home that is missing or read-only: the program starts a little slower, and that is all.
    return null;
  }
}

/** What nothing else caught, a missing file of this program included. */
function onBug(error: unknown): void {
  process.stderr.write(
    `error: ${error instanceof Error ? error.stack : String(error)}\n` +
      '  hint: This is a mistake in aishell: please report it with the lines above.\n  code: BUG\n',
  );
  process.exit(70);
}

process.on('uncaughtException', onBug);
main().catch(onBug);
