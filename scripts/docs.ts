// Writes what docs/ has from the code: errors.md and the JSON Schema of aishell.yaml (`npm run docs`).
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitCodes } from '../src/base/codes.ts';
import { configJsonSchema } from '../src/config/schema.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

const exitCodeMeanings: Readonly<Record<number, string>> = {
  0: 'Done.',
  1: 'Failed, or for `wal-fetch`: the file is not archived.',
  2: 'The command line or the configuration is wrong.',
  3: 'Finished with problems: the last lines say which.',
  4: 'Refused before anything was changed: a check, or a missing confirmation.',
  6: 'Not found.',
  7: 'Conflict: it is locked, or exists already.',
  8: 'The storage or the database could not be reached.',
  9: 'A verification failed, or something is damaged.',
  70: 'A mistake in aishell: please report it.',
  130: 'Cancelled.',
  200: '`wal-fetch` only: trouble. It is above 125 so that PostgreSQL stops the recovery instead of ending it too early.',
};

/** The generated files: path below the project's root, and content. */
export function generatedDocs(): ReadonlyMap<string, string> {
  return new Map([
    ['docs/errors.md', errorsPage(readFileSync(join(root, 'src/base/codes.ts'), 'utf8'))],
    ['docs/aishell.schema.json', `${JSON.stringify(configJsonSchema(), null, 2)}\n`],
  ]);
}

function errorsPage(source: string): string {
  const codes = [...source.matchAll(/\/\*\* (.+?) \*\/\s+([A-Z_]+): (\d+),/gs)].map(
    ([, text = '', code = '', exit = '']) => {
      const words = text.replace(/\s*\n\s*\*\s*/g, ' ');
      const end = words.search(/\.(\s|$)/);
      return { code, exit, meaning: words.slice(0, end + 1), todo: words.slice(end + 1).trim() };
    },
  );
  const missing = Object.keys(exitCodes).filter(code => !codes.some(each => each.code === code));
  if (missing.length > 0)
    throw new Error(`codes without a doc comment on one line or block: ${missing.join(', ')}`);
  const rows = codes.map(
    ({ code, exit, meaning, todo }) => `| \`${code}\` | ${exit} | ${cell(meaning)} | ${cell(todo)} |`,
  );
  const exits = Object.entries(exitCodeMeanings).map(([exit, meaning]) => `| ${exit} | ${meaning} |`);
  return `# Errors

<!-- Generated from src/base/codes.ts by \`npm run docs\`. -->

Every error says what could not be done, the likely cause or the next command (\`hint\`), and a code. With \`--json\` it is
the last line: \`{"type":"error","code":…,"message":…,"hint":…,"details":…}\`.

## Exit codes

| exit code | meaning |
|---|---|
${exits.join('\n')}

## Codes

| code | exit code | meaning | what to do |
|---|---|---|---|
${rows.join('\n')}
`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (import.meta.main) {
  for (const [path, text] of generatedDocs()) writeFileSync(join(root, path), text);
}
