import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/parse-config.ts';
import { quickConfig } from '../../src/config/quick-config.ts';
import { configJsonSchema } from '../../src/config/schema.ts';

const good = {
  version: 1,
  instances: {
    production: { engine: 'postgresql', connection: 'postgresql://h/d', service: { kind: 'auto' } },
  },
  repository: { storage: '/var/backups/aishell', key: { file: '/etc/aishell/aishell.key' } },
  backup: { compression: 'zstd:9', workers: 2 },
  agent: { spool: '/s', spool_limit: '1GB', archive_timeout: '5s', synchronous: true },
  emergency: { level: 'hard', hooks: [{ command: 'true', when: 'after', timeout: '2s' }] },
};
const folder = mkdtempSync(join(tmpdir(), 'aishell-quick-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode;
}

/** Values of keys whose meaning is looked at in any case. */
const examples: Readonly<Record<string, unknown>> = {
  alerts: {},
  ai: { provider: 'openai', model: 'm' },
  cost_per_minute: 5,
  hooks: [],
  notifications: {},
  recovery_time_objective: '60s',
  service: { kind: 'auto' },
  synchronous_timeout: '5s',
  watch: {},
};

describe('quickConfig', () => {
  it('a correct file - the same as the full check gives', async () => {
    const text = JSON.stringify(good);
    expect(await quickConfig(text, { file: '/x', cacheDirectory: null })).toEqual(parseConfig(text, '/x'));
  });

  it('every key that the schema has - known here too, so that no correct file takes the long way', async () => {
    const known = configJsonSchema() as SchemaNode;
    const { production } = good.instances;
    const groups: readonly [SchemaNode | undefined, (keys: object) => object][] = [
      [known, keys => ({ ...good, ...keys, ...good })],
      [
        known.properties?.instances?.additionalProperties,
        keys => ({ ...good, instances: { production: { ...keys, ...production } } }),
      ],
      [known.properties?.backup, keys => ({ ...good, backup: { ...keys, ...good.backup } })],
      [known.properties?.agent, keys => ({ ...good, agent: { ...keys, ...good.agent } })],
      [known.properties?.emergency, keys => ({ ...good, emergency: { ...keys, ...good.emergency } })],
    ];
    for (const [group, withKeys] of groups) {
      const keys = Object.keys(group?.properties ?? {});
      expect(keys.length).toBeGreaterThan(2);
      for (const key of keys) {
        const text = JSON.stringify(withKeys({ [key]: examples[key] ?? 'x' }));
        expect(await quickConfig(text, { file: '/x', cacheDirectory: null }), key).not.toBeNull();
      }
    }
  });

  it('kept from an earlier run - the same again, and only for the same text', async () => {
    const text = JSON.stringify(good);
    const options = { file: '/x', cacheDirectory: folder };
    const first = await quickConfig(text, options);
    expect(readdirSync(join(folder, 'config'))).toHaveLength(1);
    expect(await quickConfig(text, options)).toEqual(first);
    const other = await quickConfig(text.replace('zstd:9', 'zstd:1'), options);
    expect(other?.backup.compression).toBe(1);
  });

  it('what was kept is damaged - read from the text again', async () => {
    const options = { file: '/x', cacheDirectory: folder };
    for (const name of readdirSync(join(folder, 'config')))
      writeFileSync(join(folder, 'config', name), '{"version"');
    expect((await quickConfig(JSON.stringify(good), options))?.backup.compression).toBe(9);
  });

  it('a mistake that concerns archiving, anywhere - left to the full check, which refuses it', async () => {
    const spoil = fc.constantFrom(
      { version: 2 },
      { instances: {} },
      { instances: { 'Bad Name': good.instances.production } },
      { instances: { production: { ...good.instances.production, engine: 'mysql' } } },
      { instances: { production: { ...good.instances.production, extra: 1 } } },
      { repository: { ...good.repository, storage: 5 } },
      { repository: { ...good.repository, key: {} } },
      { repository: { ...good.repository, key: { file: '/a', passphrase: 'env:B' } } },
      { repository: { ...good.repository, more: true } },
      { backup: { compression: 'zstd:22' } },
      { backup: { compresion: 'zstd:3' } },
      { backup: [] },
      { agent: { spool: 5 } },
      { agent: { spol: '/s' } },
      { agent: { spool_limit: '8' } },
      { emergency: { lever: 'soft' } },
      { emergency: { hooks: 'true' } },
      { unknown: {} },
    );
    await fc.assert(
      fc.asyncProperty(spoil, async spoiled => {
        const text = JSON.stringify({ ...good, ...spoiled });
        expect(await quickConfig(text, { file: '/x', cacheDirectory: null })).toBeNull();
        expect(() => parseConfig(text, '/x')).toThrow();
      }),
    );
  });

  it('no YAML - null', async () => {
    expect(await quickConfig('a: [', { file: '/x', cacheDirectory: null })).toBeNull();
    expect(await quickConfig('', { file: '/x', cacheDirectory: null })).toBeNull();
  });
});
