import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerUser } from '../../src/engines/postgres/embedded-process.ts';

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/**
 * A new directory, removed at the end of the scope: `await using directory = await temporaryDirectory()`. With an owner
 * it belongs to that account.
 */
export async function temporaryDirectory(
  options: { readonly parent?: string; readonly owner?: ServerUser | null } = {},
): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(options.parent ?? tmpdir(), 'aishell-test-'));
  if (options.owner) await chown(path, options.owner.uid, options.owner.gid);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}
