import { toErrorRecord } from '../../src/base/errors.ts';
import { openStorage } from '../../src/storage/registry.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { keysOf, patternBytes, streamOf } from './bodies.ts';
import type { ChildTask } from './start-child.ts';

/**
 * A process of its own for the tests: does one task, given as JSON, and prints its result or its error as JSON. It takes
 * another user's rights only after it has loaded itself: that user may not be able to read this checkout.
 */
const task: ChildTask = JSON.parse(process.argv[2] ?? '');
if (task.uid !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(task.uid);
  process.setuid?.(task.uid);
}
const storage = openStorage({ kind: 'local', path: task.root });
process.stdout.write('ready\n');
for await (const _ of process.stdin);
try {
  process.stdout.write(`${JSON.stringify({ result: await run(storage) })}\n`);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ error: toErrorRecord(error) })}\n`);
}

async function run(on: Storage): Promise<unknown> {
  const { key = '', sizeBytes = 0, seed = 1 } = task;
  switch (task.do) {
    case 'put':
      return await on.put(key, patternBytes(sizeBytes, seed));
    case 'put-twenty':
      return await putTwenty(on, key, patternBytes(sizeBytes, seed));
    case 'put-for-ever':
      return await putForEver(on);
    case 'get':
      return (await on.get(key))?.length ?? null;
    case 'list':
      return await keysOf(on.list(key));
    case 'delete':
      return await on.delete(key);
  }
}

/** One after the other, so that processes doing the same meet on every key. */
async function putTwenty(on: Storage, directory: string, body: Uint8Array): Promise<string[]> {
  const outcomes: string[] = [];
  for (let index = 0; index < 20; index += 1) outcomes.push(await on.put(`${directory}/${index}`, body));
  return outcomes;
}

/** Keys say what the object must hold: `<directory>/<size>-<seed>`. */
async function putForEver(on: Storage): Promise<never> {
  for (let seed = process.pid; ; seed += 1) {
    const sizeBytes = Math.floor(Math.random() * 3_000_000);
    const body = patternBytes(sizeBytes, seed);
    const half = Math.floor(sizeBytes / 2);
    const asStream = streamOf([body.subarray(0, half), body.subarray(half)]);
    await on.put(`objects/${seed % 7}/${sizeBytes}-${seed}`, seed % 2 === 0 ? body : asStream);
  }
}
