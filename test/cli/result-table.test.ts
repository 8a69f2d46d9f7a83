import { expect, it } from 'vitest';
import { drawResult } from '../../src/cli/render/result-table.ts';
import { styleFor } from '../../src/cli/render/style.ts';

const style = styleFor(false);
const column = (name: string, typeOid = 25): { name: string; typeOid: number } => ({ name, typeOid });

it('numbers - stand right, texts left, NULL is shown', () => {
  expect(
    drawResult(
      [column('n', 20), column('t')],
      [
        ['1', 'a'],
        ['1000', null],
      ],
      { style, width: 80 },
    ),
  ).toEqual([
    '┌──────┬──────┐',
    '│    n │ t    │',
    '├──────┼──────┤',
    '│    1 │ a    │',
    '│ 1000 │ NULL │',
    '└──────┴──────┘',
  ]);
});

it('wide values - are cut where the terminal ends, the widest first', () => {
  const lines = drawResult(
    [column('a'), column('b'), column('c')],
    [['x'.repeat(300), 'y'.repeat(50), 'short']],
    {
      style,
      width: 60,
    },
  );
  expect(lines.every(line => [...line].length <= 60)).toBe(true);
  expect(lines[3]).toMatch(/│ x+… │ y+… │ short │/);
});

it('more columns than fit - stand below each other', () => {
  const columns = Array.from({ length: 9 }, (_, index) => column(`column_${index}`));
  const lines = drawResult(columns, [columns.map(({ name }) => `value of ${name}`)], { style, width: 60 });
  expect(lines[0]).toBe('─ row 1 ─');
  expect(lines[1]).toBe('column_0 │ value of column_0');
  expect(lines).toHaveLength(10);
});

it('line ends and escapes in a value - steer no terminal', () => {
  const text = drawResult([column('a')], [['one\ntwo\u001b[2J\tthree']], { style, width: 80 }).join('');
  expect(text).toContain('one↵two�[2J three');
});

it('without a terminal - nothing is cut', () => {
  const long = 'x'.repeat(5000);
  expect(drawResult([column('a')], [[long]], { style, width: Number.POSITIVE_INFINITY }).join('')).toContain(
    long,
  );
});
