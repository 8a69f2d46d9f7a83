/** What `wal-archive` starts for the queue behind its segment (operations/log/archive-ahead.ts); nobody else runs it. */
export const WAL_ARCHIVE_AHEAD = 'wal-archive-ahead';

export type HotCommand = { readonly config: string | undefined; readonly instance: string | undefined } & (
  | { readonly name: 'wal-archive' | typeof WAL_ARCHIVE_AHEAD; readonly path: string }
  | { readonly name: 'wal-fetch'; readonly fileName: string; readonly path: string }
);

/** Reads the arguments of the two commands PostgreSQL runs, and of the one behind them; null when there is more to them than the usual. */
export function parseHotArguments(args: readonly string[]): HotCommand | null {
  const flags = new Map<string, string>();
  const words: string[] = [];
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? '';
    const match = /^(--config|--instance)(?:=(.*))?$/s.exec(arg);
    if (match?.[1] !== undefined) {
      const value = match[2] ?? args[++index];
      if (value === undefined || value === '') return null;
      flags.set(match[1], value);
    } else if (arg.startsWith('-')) return null;
    else words.push(arg);
  }
  const [group, name, first, second, ...more] = words;
  if (group !== 'backup' || first === undefined || first === '' || more.length > 0) return null;
  const scope = { config: flags.get('--config'), instance: flags.get('--instance') };
  if ((name === 'wal-archive' || name === WAL_ARCHIVE_AHEAD) && second === undefined)
    return { ...scope, name, path: first };
  if (name === 'wal-fetch' && second !== undefined && second !== '')
    return { ...scope, name, fileName: first, path: second };
  return null;
}
