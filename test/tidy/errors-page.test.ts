import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exitCodes } from '../../src/base/codes.ts';
import { checkout, readCheckout } from './sources.ts';

const path = 'docs/errors.md';
const codes = [
  ...readCheckout('src/base/codes.ts').matchAll(/\/\*\* ([^*]+) \*\/\n {2}([A-Z_]+): (\d+),/g),
].map(([, comment = '', code = '', exitCode = '']) => ({ comment, code, exitCode: Number(exitCode) }));

test('every code - has a doc comment, the page of the manual is drawn from it', () => {
  expect(Object.fromEntries(codes.map(({ code, exitCode }) => [code, exitCode]))).toEqual(exitCodes);
});

test.skipIf(!existsSync(join(checkout, path)))(
  `${path} - says what the codes say (npm run docs writes it)`,
  () => {
    const page = readCheckout(path).replaceAll(/\s+/g, ' ');
    for (const { comment, code, exitCode } of codes) {
      expect(page, code).toContain(`\`${code}\``);
      const summary = comment.slice(0, comment.indexOf('. ') + 1) || comment;
      expect(page, code).toContain(summary.trim());
      expect(page, `${code} ends with ${exitCode}`).toMatch(
        new RegExp(`\`${code}\`[^\`]*\\b${exitCode}\\b|\\b${exitCode}\\b[^\`]*\`${code}\``),
      );
    }
  },
);
