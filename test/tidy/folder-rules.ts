import { importsOf, readTables, resolveImport, type Source } from './sources.ts';

/** Which folder of src/ may import which others, in the order of the table. */
export type FolderTable = ReadonlyMap<string, readonly string[]>;

/** Folders whose subfolders are adapters of one contract: they never import each other, only the registry knows them. */
const adapterFolders = ['storage', 'engines'];

/** @throws Error when a row names something that is no row above it */
export function readFolderTable(architecture: string): FolderTable {
  const table = new Map<string, string[]>();
  for (const [folder = '', , mayImport = ''] of readTables(architecture, 'folder')) {
    const name = /^`src\/([a-z-]+)\/`$/.exec(folder)?.[1];
    const allowed = mayImport === '-' ? [] : mayImport.split(/\s+/);
    const unknown = allowed.find(each => !table.has(each));
    if (name === undefined || table.has(name))
      throw new Error(`the row of '${folder}' cannot be read, or is there twice`);
    if (unknown !== undefined)
      throw new Error(`src/${name}/ may import '${unknown}', which is no row above it`);
    table.set(name, allowed);
  }
  return table;
}

/** What the imports of these sources break, one line each. */
export function findFolderFindings(sources: readonly Source[], table: FolderTable): string[] {
  const known = new Set(sources.map(source => source.path));
  const findings: string[] = [];
  for (const { path, text } of sources) {
    const from = partsOf(path);
    if (!table.has(from.folder)) findings.push(`${path} is in no folder of the table`);
    for (const specifier of importsOf(text)) {
      const target = resolveImport(path, specifier);
      if (target === null) continue;
      const to = partsOf(target);
      if (!target.startsWith('src/')) findings.push(`${path} imports ${target}, outside src/`);
      else if (!target.endsWith('.base64.ts') && !known.has(target))
        findings.push(`${path} imports ${target}, which is no file`);
      else if (from.folder !== to.folder && table.get(from.folder)?.includes(to.folder) !== true) {
        findings.push(`${path} imports ${target}: src/${from.folder}/ may not import src/${to.folder}/`);
      } else if (breaksAdapterRule(from, to))
        findings.push(`${path} imports ${target}: only the registry knows the adapters`);
    }
  }
  return findings;
}

interface Parts {
  readonly folder: string;
  /** The folder inside the folder, null for a file that lies in the folder itself. */
  readonly adapter: string | null;
  readonly file: string;
}

function partsOf(path: string): Parts {
  const [, folder = '', ...rest] = path.split('/');
  return {
    folder: rest.length === 0 ? '' : folder,
    adapter: rest.length > 1 ? (rest[0] ?? null) : null,
    file: rest.at(-1) ?? '',
  };
}

function breaksAdapterRule(from: Parts, to: Parts): boolean {
  if (!adapterFolders.includes(to.folder) || to.adapter === null || from.folder !== to.folder) return false;
  return from.adapter === null ? from.file !== 'registry.ts' : from.adapter !== to.adapter;
}

/** Every circle of imports that a walk over all sources comes back on, as `a -> b -> a`. */
export function findCircles(sources: readonly Source[]): string[] {
  const targets = new Map(
    sources.map(({ path, text }) => [path, importsOf(text).map(each => resolveImport(path, each))]),
  );
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) circles.push([...trail.slice(start), path].join(' -> '));
    if (start >= 0 || done.has(path)) return;
    for (const target of targets.get(path) ?? []) if (target !== null) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of targets.keys()) visit(path, []);
  return circles;
}
