import { chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findConfigFile } from '../../src/config/find-config.ts';
import { temporaryDirectory } from '../support/temp.ts';

const NOBODY = 65_534;

describe.skipIf(process.getuid?.() !== 0)('the configuration in the current directory, as root', () => {
  it("another user's - refused, unless it is named or it is who has called sudo", async () => {
    await using directory = await temporaryDirectory();
    const place = join(directory.path, 'aishell.yaml');
    writeFileSync(place, 'version: 1\n');
    const search = { env: {}, cwd: directory.path };
    expect(findConfigFile(search)).toBe(place);
    chownSync(place, NOBODY, NOBODY);
    expect(() => findConfigFile(search)).toThrow('it belongs to another user');
    expect(() => findConfigFile({ ...search, env: { SUDO_UID: '1000' } })).toThrow('unable to trust');
    expect(findConfigFile({ ...search, env: { SUDO_UID: String(NOBODY) } })).toBe(place);
    expect(findConfigFile({ ...search, file: 'aishell.yaml' })).toBe(place);
    expect(findConfigFile({ ...search, env: { AISHELL_CONFIG: place } })).toBe(place);
  });
});
