import { expect, test } from 'vitest';
import { listFiles, readSources } from './sources.ts';

const MOST_LINES = 400;
const vagueWords = ['utils', 'util', 'helpers', 'helper', 'common', 'manager'];
const vagueFiles = ['data', 'service', 'misc', 'index'];
const vagueFolders = ['data', 'service', 'services', ...vagueWords];

/** Names that say nothing, and names that are not kebab-case. A word like `service` may say which (`system-service.ts`). */
function findNameFindings(paths: readonly string[]): string[] {
  return paths.flatMap(path => {
    const folders = path.split('/').slice(0, -1);
    const file = path.split('/').at(-1) ?? '';
    const name = file.slice(0, file.indexOf('.'));
    const vague =
      folders.find(folder => vagueFolders.includes(folder)) ??
      name.split('-').find(word => vagueWords.includes(word)) ??
      vagueFiles.find(word => word === name && !isEngineFile(path, word));
    if (vague !== undefined) return [`${path}: '${vague}' does not say what it is`];
    return /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) ? [] : [`${path} is not kebab-case`];
  });
}

/** In an engine's folder `service.ts` is the operating system service that runs the server, in every engine. */
function isEngineFile(path: string, word: string): boolean {
  return word === 'service' && path.startsWith('src/engines/');
}

test(`the files of src/ - have at most ${MOST_LINES} lines`, () => {
  const long = readSources('src')
    .map(({ path, text }) => ({ path, lines: text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > MOST_LINES);
  expect(long).toEqual([]);
});

test('the names of files and folders - say what is inside', () => {
  const paths = ['src', 'test', 'scripts', 'bench'].flatMap(listFiles).filter(path => path.endsWith('.ts'));
  expect(findNameFindings(paths)).toEqual([]);
});

test('a name that says nothing - is found', () => {
  const bad = [
    'src/a/utils/b.ts',
    'src/a/date-utils.ts',
    'src/a/lock-manager.ts',
    'src/a/data.ts',
    'src/services/b.ts',
    'src/a/index.ts',
    'src/a/dataFiles.ts',
  ];
  expect(findNameFindings(bad)).toHaveLength(bad.length);
  expect(
    findNameFindings(['src/a/data-files.ts', 'src/engines/postgres/service.ts', 'test/a/b-c.test.ts']),
  ).toEqual([]);
});
