import { AppError, messageOf } from '../../base/errors.ts';

const moments = ['before', 'middle', 'after'] as const;
const refusals = ['ENOSPC', 'EACCES', 'UNREACHABLE'] as const;
const actions = ['kill', ...refusals] as const;
const readFaults = ['truncate', 'flip', 'missing', ...refusals] as const;

/** What the operating system would have answered; UNREACHABLE: nothing at all. */
export type Refusal = (typeof refusals)[number];

export type ReadFault = (typeof readFaults)[number];

/** Which calls of a storage go wrong, and how. An empty plan changes nothing. */
export interface FaultPlan {
  /** The ordinal, from 1, of the write (`put` or `delete`) that goes wrong. */
  readonly write?: number;
  /** Every later write goes wrong too. */
  readonly lasting?: boolean;
  /** Before anything was done, with half of the body written, or with all of it done and nobody told. */
  readonly at?: (typeof moments)[number];
  /** `kill`: SIGKILL of this process, all threads. */
  readonly action?: (typeof actions)[number];
  /**
   * Writes are counted over all threads and processes by a line each in this file: `<token> <put|delete> <key>`.
   * Without it, each storage counts its own.
   */
  readonly counterFile?: string;
  /** Reads whose key matches the regular expression go wrong: half of the bytes, one bit changed, no object, refused. */
  readonly reads?: { readonly fault: ReadFault; readonly key?: string };
  /** Every call takes so much longer. */
  readonly delayMs?: number;
}

/** Reads a plan. @throws CONFIG for a member or value that is not known: a mistyped fault would test nothing */
export function parseFaultPlan(text: string): FaultPlan {
  try {
    const plan = members(JSON.parse(text));
    const known = new Set(['write', 'lasting', 'at', 'action', 'counterFile', 'reads', 'delayMs']);
    for (const name of Object.keys(plan)) expect(known.has(name), `'${name}' is not known`);
    const { write, at, action, lasting, counterFile, delayMs } = plan;
    expect(write === undefined || (Number.isInteger(write) && Number(write) >= 1), 'write counts from 1');
    expect((write === undefined) === (action === undefined), 'write and action belong together');
    expect(at === undefined || isOneOf(moments, at), `at is one of ${moments.join(', ')}`);
    expect(action === undefined || isOneOf(actions, action), `action is one of ${actions.join(', ')}`);
    expect(lasting === undefined || typeof lasting === 'boolean', 'lasting is true or false');
    expect(counterFile === undefined || typeof counterFile === 'string', 'counterFile is a path');
    expect(delayMs === undefined || (typeof delayMs === 'number' && delayMs >= 0), 'delayMs is a number');
    if (plan.reads !== undefined) checkReads(members(plan.reads));
    return plan;
  } catch (error) {
    throw new AppError(
      'CONFIG',
      `unable to read the fault plan in AISHELL_STORAGE_FAULTS: ${messageOf(error)}`,
      {
        hint: 'It is there for tests: unset it for real work.',
      },
    );
  }
}

function checkReads({ fault, key, ...others }: Record<string, unknown>): void {
  expect(isOneOf(readFaults, fault), `reads.fault is one of ${readFaults.join(', ')}`);
  expect(key === undefined || typeof key === 'string', 'reads.key is a regular expression');
  expect(Object.keys(others).length === 0, `'${Object.keys(others)[0]}' is not known`);
  if (typeof key === 'string') new RegExp(key);
}

function members(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new Error('a plan is an object');
}

function isOneOf(values: readonly string[], value: unknown): boolean {
  return typeof value === 'string' && values.includes(value);
}

function expect(condition: boolean, rule: string): void {
  if (!condition) throw new Error(rule);
}
