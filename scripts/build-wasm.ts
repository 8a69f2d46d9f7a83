import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import loadWabt from 'wabt';

/**
 * Turns each .wat file into a .base64.ts file beside it, which is committed: a user's install then needs no compiler,
 * and bundling needs no loader for binary files. Run it with `node scripts/build-wasm.ts` after changing a .wat file.
 */
export const wasmSources: readonly {
  readonly wat: URL;
  readonly output: URL;
  readonly exportName: string;
}[] = [
  {
    wat: new URL('../src/engines/postgres/page-checksum.wat', import.meta.url),
    output: new URL('../src/engines/postgres/page-checksum.base64.ts', import.meta.url),
    exportName: 'pageChecksumBase64',
  },
  {
    wat: new URL('../src/engines/postgres/crc32c.wat', import.meta.url),
    output: new URL('../src/engines/postgres/crc32c.base64.ts', import.meta.url),
    exportName: 'crc32cBase64',
  },
];

/** The text of the .base64.ts file that belongs to a .wat file. */
export async function compileWasmSource(source: (typeof wasmSources)[number]): Promise<string> {
  const wabt = await loadWabt();
  const name = fileURLToPath(source.wat);
  const module = wabt.parseWat(name, await readFile(source.wat, 'utf8'), { simd: true });
  try {
    module.validate();
    const base64 = Buffer.from(module.toBinary({}).buffer).toString('base64');
    return `// Made by scripts/build-wasm.ts from the .wat file beside it.\nexport const ${source.exportName} =\n  '${base64}';\n`;
  } finally {
    module.destroy();
  }
}

if (import.meta.main) {
  for (const source of wasmSources) await writeFile(source.output, await compileWasmSource(source));
}
