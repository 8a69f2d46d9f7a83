import { openConfiguredRepository } from '../../app/open-repository.ts';
import type { Config } from '../../config/config.ts';
import { findConfigFile } from '../../config/find-config.ts';
import { quickConfig } from '../../config/quick-config.ts';
import { readConfigText } from '../../config/read-config.ts';
import { selectInstance } from '../../config/to-config.ts';

/** Where a command finds its configuration, and whose log it is about. */
export interface WalScope {
  readonly config: string | undefined;
  readonly instance: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly signal?: AbortSignal;
}

export interface ArchivedSegment {
  readonly name: string;
  /** `same`: these very bytes were archived before. */
  readonly outcome: 'stored' | 'same';
  readonly sizeBytes: number;
}

/** `backup wal-archive %p`; resolves only once the segment is durable. */
export async function walArchive(
  scope: WalScope,
  { path }: { readonly path: string },
): Promise<ArchivedSegment> {
  const config = await quickReadConfig(scope);
  const instance = selectInstance(config, scope.instance);
  const { archiveSegment } = await import('../../operations/log/archive-segment.ts');
  const repository = await openConfiguredRepository(config, scope);
  const request = { instance: instance.name, path, level: config.backup.compression };
  return await archiveSegment(repository, request, scope.signal);
}

/** `backup wal-fetch %f %p` */
export async function walFetch(
  scope: WalScope,
  { fileName, path }: { readonly fileName: string; readonly path: string },
): Promise<{ readonly name: string; readonly found: boolean }> {
  const config = await quickReadConfig(scope);
  const instance = selectInstance(config, scope.instance);
  const { fetchSegment } = await import('../../operations/log/fetch-segment.ts');
  const repository = await openConfiguredRepository(config, scope);
  const found = await fetchSegment(repository, { instance: instance.name, name: fileName, path });
  return { name: fileName, found };
}

async function quickReadConfig(scope: WalScope): Promise<Config> {
  const file = await findConfigFile({ file: scope.config, env: scope.env, cwd: scope.cwd });
  const text = await readConfigText(file);
  const config = quickConfig(text, file);
  if (config !== null) return config;
  const { parseConfig } = await import('../../config/parse-config.ts');
  return parseConfig(text, file);
}
