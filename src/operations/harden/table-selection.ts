import { didYouMean } from '../../base/did-you-mean.ts';
import { AppError } from '../../base/errors.ts';
import type { GuardFacts, GuardTable } from '../../engines/postgres/guard-facts.ts';
import {
  createFunctionSql,
  GUARD_SCHEMA,
  type GuardFunction,
  type GuardTrigger,
} from '../../engines/postgres/guard-objects.ts';
import { type HardenSettings, type MeasureName, recordedOption } from './measure.ts';

/** Which tables a measure is for. */
export interface TableSelection {
  /** As it is put on record: all that there are at any time, or these. */
  readonly tables: 'all' | readonly string[];
  /** Those of them that can have triggers, and whose owner this user is. */
  readonly possible: readonly GuardTable[];
  /** Those that this call names, or all. */
  readonly named: readonly GuardTable[];
  readonly notOwned: readonly GuardTable[];
  readonly foreign: readonly GuardTable[];
}

/** @throws USAGE a name that is not known, or means several tables */
export function selectTables(
  facts: GuardFacts,
  measure: MeasureName,
  { tables: asked }: Pick<HardenSettings, 'tables'>,
): TableSelection {
  const recorded = recordedOption(facts, measure, 'tables') as 'all' | readonly string[] | null;
  const named = asked === null || asked === 'all' ? null : asked.map(text => findTable(facts.tables, text));
  const tables = chooseTables(
    recorded,
    asked === 'all' ? 'all' : (named?.map(({ quoted }) => quoted) ?? null),
  );
  const wanted = facts.tables.filter(({ quoted }) => tables === 'all' || tables.includes(quoted));
  const foreign = wanted.filter(({ hasForeignParts }) => hasForeignParts);
  const own = wanted.filter(({ hasForeignParts }) => !hasForeignParts);
  const possible = own.filter(({ owned }) => owned);
  return { tables, possible, named: named ?? wanted, notOwned: own.filter(({ owned }) => !owned), foreign };
}

/** Naming tables adds them to those that are protected; it does not take the protection from others. */
function chooseTables(
  recorded: 'all' | readonly string[] | null,
  asked: 'all' | readonly string[] | null,
): 'all' | readonly string[] {
  if (asked === null) return recorded ?? 'all';
  if (asked === 'all' || recorded === 'all') return 'all';
  return [...new Set([...(recorded ?? []), ...asked])].sort();
}

/** Splits `a,public.b,"Odd,Name"."x"` at the commas outside of quotes. */
export function splitTableNames(text: string): string[] {
  const names = text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? [];
  return names.map(name => name.trim()).filter(name => name !== '');
}

/** The table that a name means: as SQL reads it, or as it is spelled. */
function findTable(tables: readonly GuardTable[], text: string): GuardTable {
  const parts = [...text.matchAll(/"((?:[^"]|"")*)"|([^".]+)/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain?.toLowerCase() ?? '',
  );
  const [name = '', schema] = parts.toReversed();
  const spelled = tables.filter(table => `${table.schema}.${table.name}` === text || table.name === text);
  const read = tables.filter(
    table => parts.length <= 2 && table.name === name && (schema === undefined || table.schema === schema),
  );
  const found = read.length > 0 ? read : spelled;
  if (found.length === 1 && found[0] !== undefined) return found[0];
  if (found.length > 1) {
    throw new AppError('USAGE', `unable to choose a table: there are ${found.length} called '${text}'`, {
      hint: `Name one with its schema: ${found.map(({ quoted }) => quoted).join(', ')}.`,
    });
  }
  const near = didYouMean(
    text,
    tables.flatMap(table => [table.name, `${table.schema}.${table.name}`]),
  );
  throw new AppError('USAGE', `unable to find the table '${text}' in this database`, {
    hint:
      near === null
        ? 'Views, foreign tables and temporary tables cannot be protected. --database names another database.'
        : `Did you mean '${near}'?`,
  });
}

/** The table has this trigger, as it was made. */
export function hasTrigger(table: GuardTable, trigger: GuardTrigger, counts: boolean): boolean {
  return table.triggers.some(
    found =>
      found.name === trigger.name &&
      found.enabled &&
      found.function === `${GUARD_SCHEMA}.${trigger.function.name}` &&
      (found.rows !== null) === counts,
  );
}

/** It is as it was made; somebody's change of it could let everything through. */
export function hasFunction({ server }: GuardFacts, wanted: GuardFunction): boolean {
  return server.functions.some(
    ({ name, body, definer, settings }) =>
      name === wanted.name &&
      body === wanted.body &&
      definer === (wanted.definer ?? false) &&
      settings?.length === 1 &&
      settings[0] === 'search_path=pg_catalog, pg_temp',
  );
}

export function missingFunctionSql(facts: GuardFacts, wanted: GuardFunction): string[] {
  return hasFunction(facts, wanted) ? [] : [createFunctionSql(wanted)];
}

/** Why some tables are left out. */
export function selectionNotes({ foreign }: TableSelection): string[] {
  return foreign.map(
    ({ quoted }) =>
      `${quoted} is left out: parts of it are foreign tables, where changed rows cannot be counted`,
  );
}

export function notOwnedReason({ notOwned }: TableSelection): string | null {
  if (notOwned.length === 0) return null;
  return `this user does not own ${notOwned.map(({ quoted }) => quoted).join(', ')}`;
}
