import { AppError } from '../base/errors.ts';

/** `synchronous_standby_names`, read. @source PostgreSQL manual, "synchronous_standby_names"; syncrep_gram.y */
interface StandbyNames {
  readonly method: 'FIRST' | 'ANY';
  readonly count: number;
  readonly names: readonly string[];
}

/**
 * The setting with `name` required as well: it comes first, and one more must answer than before.
 *
 * @throws UNSUPPORTED for `ANY n (…)`, which cannot require one of its names
 */
export function withStandby(setting: string, name: string): string {
  const known = parse(setting);
  const own = known === null ? [] : known.names.filter(each => !isSame(each, name));
  if (known !== null && own.length < known.names.length) return setting;
  if (known === null) return write({ method: 'FIRST', count: 1, names: [name] });
  if (known.method === 'ANY') {
    throw new AppError(
      'UNSUPPORTED',
      `unable to make commits wait for the agent: synchronous_standby_names is '${setting}'`,
      {
        hint: 'With ANY no single standby can be required. Use FIRST n (…), or stream without --synchronous.',
      },
    );
  }
  return write({ ...known, count: known.count + 1, names: [name, ...known.names] });
}

/** The setting without `name`; one less must answer. */
export function withoutStandby(setting: string, name: string): string {
  const known = parse(setting);
  if (known === null) return setting;
  const names = known.names.filter(each => !isSame(each, name));
  if (names.length === known.names.length) return setting;
  const count = Math.min(Math.max(1, known.count - 1), names.length);
  return names.length === 0 ? '' : write({ ...known, count, names });
}

function parse(setting: string): StandbyNames | null {
  const text = setting.trim();
  if (text === '') return null;
  const match = /^(?:(FIRST|ANY)\s+)?(\d+)\s*\((.*)\)$/is.exec(text);
  const list = match?.[3] ?? text;
  const names = [...list.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(
    each => each[1]?.replaceAll('""', '"') ?? each[2]!,
  );
  return {
    method: match?.[1]?.toUpperCase() === 'ANY' ? 'ANY' : 'FIRST',
    count: match === null ? 1 : Number(match[2]),
    names,
  };
}

function write({ method, count, names }: StandbyNames): string {
  return `${method} ${count} (${names.map(quote).join(', ')})`;
}

function quote(name: string): string {
  return name === '*' ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Names of standbys are compared without regard to case. */
function isSame(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}
