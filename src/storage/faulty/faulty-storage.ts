import { delay } from '../../base/abort.ts';
import { AppError } from '../../base/errors.ts';
import { readBody } from '../body.ts';
import type { BodyStream, CallOptions, Storage } from '../storage.ts';
import type { FaultPlan, ReadFault, Refusal } from './fault-plan.ts';
import { fileCounter, localCounter } from './write-counter.ts';

/** A storage over another one in which those calls go wrong that the plan names; all others pass through unchanged. */
export function faultyStorage(inner: Storage, plan: FaultPlan): Storage {
  const takeTurn = turnsOf(plan);
  const slow = async (options?: CallOptions): Promise<void> => {
    if (plan.delayMs !== undefined) await delay(plan.delayMs, options?.signal);
  };
  return {
    description: inner.description,
    put: async (key, body, options) => {
      await slow(options);
      const strike = await takeTurn(inner, `put ${key}`);
      if (strike === null) return await inner.put(key, body, options);
      if (plan.at === 'middle') await inner.put(key, brokenBody(key, body, strike), options);
      if (plan.at === 'after') await inner.put(key, body, options);
      return await strike();
    },
    delete: async (key, options) => {
      await slow(options);
      const strike = await takeTurn(inner, `delete ${key}`);
      if (strike === null || plan.at === 'after') await inner.delete(key, options);
      await strike?.();
    },
    ...readsOf(inner, plan, slow),
    ...(inner.freeBytes === undefined ? {} : { freeBytes: inner.freeBytes }),
  };
}

/** What is to happen when it is a write's turn. */
type Strike = () => Promise<never>;

/** Counts a write; gives what must happen to it, or null when it goes through. */
function turnsOf(plan: FaultPlan): (inner: Storage, write: string) => Promise<Strike | null> {
  const { write: ordinal, action = 'kill', lasting = false } = plan;
  const count = plan.counterFile === undefined ? localCounter() : fileCounter(plan.counterFile);
  return async (inner, write) => {
    const current = await count(write);
    if (ordinal === undefined || current < ordinal || (current > ordinal && !lasting)) return null;
    return async () => {
      if (action === 'kill') return await killThisProcess();
      throw refusal(action, `${write.replace(' ', " '")}'`, inner);
    };
  };
}

async function killThisProcess(): Promise<never> {
  process.kill(process.pid, 'SIGKILL');
  return await new Promise<never>(() => undefined);
}

/** Half of a body, then the fault: on a disk, half an object is really written when it strikes. */
function brokenBody(key: string, body: Uint8Array | BodyStream, strike: Strike): BodyStream {
  const sizeBytes = body instanceof Uint8Array ? body.length : body.sizeBytes;
  return {
    sizeBytes,
    async *open() {
      let leftBytes = Math.floor(sizeBytes / 2);
      for await (const chunk of readBody(key, body)) {
        if (leftBytes > 0) yield chunk.subarray(0, leftBytes);
        leftBytes -= chunk.length;
        if (leftBytes <= 0) break;
      }
      await strike();
    },
  };
}

function readsOf(
  inner: Storage,
  { reads }: FaultPlan,
  slow: (options?: CallOptions) => Promise<void>,
): Pick<Storage, 'get' | 'head' | 'list'> {
  const pattern = new RegExp(reads?.key ?? '');
  /** The fault of a read, null for none. */
  const check = (key: string): ReadFault | null => {
    const fault = reads !== undefined && pattern.test(key) ? reads.fault : null;
    if (fault === 'ENOSPC' || fault === 'EACCES' || fault === 'UNREACHABLE')
      throw refusal(fault, `read '${key}'`, inner);
    return fault;
  };
  return {
    get: async (key, range, options) => {
      await slow(options);
      const fault = check(key);
      const bytes = await inner.get(key, range, options);
      return bytes === null || fault === null ? bytes : damaged(bytes, fault);
    },
    head: async (key, options) => {
      await slow(options);
      return check(key) === 'missing' ? null : await inner.head(key, options);
    },
    list: (prefix, options) => {
      const objects = inner.list(prefix, options);
      return (async function* () {
        await slow(options);
        for await (const facts of objects) if (check(facts.key) !== 'missing') yield facts;
      })();
    },
  };
}

function damaged(bytes: Uint8Array, fault: ReadFault): Uint8Array | null {
  if (fault === 'missing') return null;
  const middle = Math.floor(bytes.length / 2);
  if (fault === 'truncate') return bytes.slice(0, middle);
  const copy = bytes.slice();
  if (copy.length > 0) copy[middle] = (copy[middle] ?? 0) ^ 0x01;
  return copy;
}

function refusal(fault: Refusal, what: string, inner: Storage): AppError {
  const [code, why] = {
    ENOSPC: ['STORAGE_FULL', 'no space is left'] as const,
    EACCES: ['STORAGE_DENIED', 'permission denied'] as const,
    UNREACHABLE: ['STORAGE_UNREACHABLE', 'no answer'] as const,
  }[fault];
  return new AppError(code, `unable to ${what} in ${inner.description}: ${why} (injected)`, {
    hint: 'AISHELL_STORAGE_FAULTS is set: unset it for real work.',
  });
}
