import { LineCounter, parseDocument } from 'yaml';
import { AppError } from '../base/errors.ts';
import type { Config } from './config.ts';
import { type ConfigProblem, describeIssues } from './config-problems.ts';
import { configSchema } from './schema.ts';
import { toConfig } from './to-config.ts';

/** Checks the text of an aishell.yaml. @throws CONFIG every mistake at once, each with its line (`details.problems`) */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  if (document.errors.length > 0) {
    throw configError(
      file,
      document.errors.map(error => ({
        line: error.linePos?.[0].line ?? 1,
        path: '',
        message: (error.message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, ''),
      })),
    );
  }
  const value: unknown = readValue(document, file);
  const checked = configSchema.safeParse(value ?? {}, { reportInput: true });
  if (checked.success) return toConfig(checked.data, file);
  throw configError(file, describeIssues(checked.error.issues, { document, lines }));
}

function readValue(document: ReturnType<typeof parseDocument>, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw configError(file, [
      { line: 1, path: '', message: error instanceof Error ? error.message : String(error) },
    ]);
  }
}

function configError(file: string, problems: readonly ConfigProblem[]): AppError {
  const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`;
  const list = problems.map(
    ({ line, path, message }) => `\n  line ${line}: ${path === '' ? '' : `${path}: `}${message}`,
  );
  return new AppError(
    'CONFIG',
    `unable to use the configuration '${file}': it has ${count}${list.join('')}`,
    {
      hint: 'Correct the file; docs/configuration.md lists every key.',
      details: { file, problems },
    },
  );
}
