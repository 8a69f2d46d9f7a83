import type { ErrorRecord } from '../../base/errors.ts';
import type { Style } from './style.ts';

/** `error: …`, then the hint and the code, each on its line. */
export function errorLines(record: ErrorRecord, style: Style): readonly string[] {
  if (record.code === 'CANCELLED') return [style.warn(record.message)];
  const stack =
    record.code === 'BUG' && typeof record.details?.stack === 'string'
      ? record.details.stack.split('\n')
      : [];
  return [
    `${style.bad('error:')} ${record.message}`,
    ...stack.slice(1).map(line => style.dim(line)),
    ...(record.hint === undefined ? [] : [`  ${style.title('hint:')} ${record.hint}`]),
    ...(record.code === 'BUG'
      ? [`  ${style.title('hint:')} This is a mistake in aishell: please report it with the lines above.`]
      : []),
    `  ${style.dim(`code: ${record.code}`)}`,
  ];
}
