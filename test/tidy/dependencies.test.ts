import { expect, test } from 'vitest';
import { importsOf, readCheckout, readSources, readTables, type Source } from './sources.ts';

interface Package {
  readonly name: string;
  /** Folders or files that may import it. */
  readonly places: readonly string[];
}

const page: readonly Package[] = readTables(readCheckout('DEPENDENCIES.md'), 'package').map(
  ([name = '', places = '']) => ({
    name: name.replaceAll('`', ''),
    places: [...places.matchAll(/`([^`]+)`/g)].map(match => match[1] ?? ''),
  }),
);

/** The package of an import, null for Node's own modules and for files. */
function packageOf(specifier: string): string | null {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return null;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Imports of packages where they may not be. Tests may use what the program uses. */
function findDependencyFindings(sources: readonly Source[], packages: readonly Package[]): string[] {
  return sources.flatMap(({ path, text }) =>
    importsOf(text).flatMap(specifier => {
      const name = packageOf(specifier);
      if (name === null) return [];
      const listed = packages.find(each => each.name === name);
      if (listed === undefined) return [`${path} imports '${name}', which is not in DEPENDENCIES.md`];
      const isInTest = /^(test|bench)\//.test(path) && listed.places.some(place => place.startsWith('src/'));
      const isAllowed =
        isInTest ||
        listed.places.some(place => path === place || (place.endsWith('/') && path.startsWith(place)));
      return isAllowed
        ? []
        : [`${path} imports '${name}', which belongs to ${listed.places.join(', ') || 'nobody'}`];
    }),
  );
}

test('DEPENDENCIES.md - names exactly the packages of package.json', () => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(readCheckout('package.json'));
  const names = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
  expect(page.map(each => each.name).toSorted()).toEqual(names.toSorted());
});

test('a package at run time - has one folder of src/', () => {
  const { dependencies } = JSON.parse(readCheckout('package.json'));
  for (const name of Object.keys(dependencies)) {
    const places = page.find(each => each.name === name)?.places;
    expect(places, name).toEqual([expect.stringMatching(/^src\/[a-z]+\/$/)]);
  }
});

test('every import of a package - is where DEPENDENCIES.md has it', () => {
  const sources = [
    ...readSources('src', 'scripts', 'test', 'bench'),
    { path: 'vitest.config.ts', text: readCheckout('vitest.config.ts') },
  ];
  expect(findDependencyFindings(sources, page)).toEqual([]);
});

test('an import in another place, or of an unknown package - is found', () => {
  const packages = [
    { name: 'pg', places: ['src/engines/'] },
    { name: '@a/b', places: ['scripts/'] },
  ];
  const sources = [
    { path: 'src/engines/postgres/a.ts', text: "import pg from 'pg';\nimport '@a/b/deep';" },
    { path: 'src/cli/b.ts', text: "import type { Client } from 'pg';\nimport 'node:fs';\nimport 'fs';" },
    { path: 'test/c.ts', text: "import pg from 'pg';\nimport './x.ts';\nimport '@a/b';" },
  ];
  expect(findDependencyFindings(sources, packages)).toEqual([
    "src/engines/postgres/a.ts imports '@a/b', which belongs to scripts/",
    "src/cli/b.ts imports 'pg', which belongs to src/engines/",
    "src/cli/b.ts imports 'fs', which is not in DEPENDENCIES.md",
    "test/c.ts imports '@a/b', which belongs to scripts/",
  ]);
});
