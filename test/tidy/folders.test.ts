import { expect, test } from 'vitest';
import { findCircles, findFolderFindings, readFolderTable } from './folder-rules.ts';
import { importsOf, readCheckout, readSources } from './sources.ts';

const table = readFolderTable(readCheckout('ARCHITECTURE.md'));
const sources = readSources('src');

test('the folders of src/ - import only what their row of ARCHITECTURE.md names', () => {
  expect(sources.length).toBeGreaterThan(20);
  expect(findFolderFindings(sources, table)).toEqual([]);
});

test('the files of src/ - import each other in no circle, types included', () => {
  expect(findCircles(sources)).toEqual([]);
});

test('every way to write an import - is seen, comments and texts are not', () => {
  const text = `
import './a.ts';
import type { B } from "./b.ts";
import {
  type C,
  c,
} from './c.ts';
import * as d from './d.ts'; import e, { f } from './e.ts';
export { g } from './g.ts';
export type * from './h.ts';
const i = await import('./i.ts');
type J = import('./j.ts').J;
// import './no.ts';
/**
 * import './no.ts';
 */
export const from = 'no';
export const text = Array.from('no');
`;
  const expected = ['a', 'b', 'c', 'd', 'e', 'g', 'h', 'i', 'j'].map(name => `./${name}.ts`);
  expect(importsOf(text).toSorted()).toEqual(expected);
});

test('an import the table does not allow - is found, whatever it is', () => {
  const files = {
    'src/base/a.ts': "import type { B } from '../storage/b.ts';",
    'src/storage/b.ts': "import { c } from './local/c.ts';\nexport { a } from '../base/a.ts';",
    'src/storage/registry.ts': "import { c } from './local/c.ts';",
    'src/storage/local/c.ts': "await import('../memory/d.ts');",
    'src/storage/memory/d.ts': "import '../../../test/x.ts';\nimport './gone.ts';\nimport 'zod';",
    'src/stray.ts': '',
  };
  const found = findFolderFindings(
    Object.entries(files).map(([path, text]) => ({ path, text })),
    table,
  );
  expect(found).toEqual([
    'src/base/a.ts imports src/storage/b.ts: src/base/ may not import src/storage/',
    'src/storage/b.ts imports src/storage/local/c.ts: only the registry knows the adapters',
    'src/storage/local/c.ts imports src/storage/memory/d.ts: only the registry knows the adapters',
    'src/storage/memory/d.ts imports test/x.ts, outside src/',
    'src/storage/memory/d.ts imports src/storage/memory/gone.ts, which is no file',
    'src/stray.ts is in no folder of the table',
  ]);
});

test('a circle - is found, also through types', () => {
  const files = {
    'src/base/a.ts': "import { b } from './b.ts';",
    'src/base/b.ts': "import { c } from './c.ts';",
    'src/base/c.ts': "import type { A } from './a.ts';",
    'src/base/d.ts': "import { a } from './a.ts';",
  };
  const found = findCircles(Object.entries(files).map(([path, text]) => ({ path, text })));
  expect(found).toEqual(['src/base/a.ts -> src/base/b.ts -> src/base/c.ts -> src/base/a.ts']);
});

test('a table that allows a folder below - is refused', () => {
  const rows = '| folder | holds | may import |\n|---|---|---|\n| `src/a/` | x | b |\n| `src/b/` | x | - |';
  expect(() => readFolderTable(rows)).toThrow("'b', which is no row above it");
});
