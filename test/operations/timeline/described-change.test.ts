import { expect, test } from 'vitest';
import { nameParts, parseDescribedChange } from '../../../src/operations/timeline/described-change.ts';
import { fitsTable } from '../../../src/operations/timeline/find-described-change.ts';

test.each([
  ['before the delete on users', 'delete', 'users', 'only', false, false],
  ['Before  the DELETE of  users', 'delete', 'users', 'only', false, false],
  ['just before the drop of table orders', 'drop', 'orders', 'only', false, false],
  ['before the truncate on public.users', 'truncate', 'public.users', 'only', false, false],
  ['before the truncation of shop.public.users', 'truncate', 'shop.public.users', 'only', false, false],
  ['before the last mass delete', 'delete', null, 'last', true, false],
  ['before the latest update on users', 'update', 'users', 'last', false, false],
  [
    'before the first bulk insert into "Odd name"."users.2"',
    'insert',
    '"Odd name"."users.2"',
    'first',
    true,
    false,
  ],
  ['after the load of orders', 'insert', 'orders', 'only', false, true],
  ['before delete on users', 'delete', 'users', 'only', false, false],
  ['before the delete users', 'delete', 'users', 'only', false, false],
  ['before the drop', 'drop', null, 'only', false, false],
] as const)('%s - understood', (text, change, table, which, large, after) => {
  expect(parseDescribedChange(text)).toMatchObject({ change, table, which, large, after });
});

test.each([
  'before',
  'before lunch',
  'before the delete on users and orders',
  'before the delete on a.b.c.d',
  'before the delete on "users',
  `before the delete on ${'x'.repeat(400)}`,
  'after 14:00',
])('%s - refused with how to write it', text => {
  expect(() => parseDescribedChange(text)).toThrow(
    expect.objectContaining({
      code: 'TIME_AMBIGUOUS',
      hint: expect.stringContaining('before the delete on users'),
    }),
  );
});

test.each(['14:00', '2025-10-27 13:59:59', '10 minutes ago', 'the delete on users', 'beforehand'])(
  '%s - no description: it may be a time',
  text => {
    expect(parseDescribedChange(text)).toBeNull();
  },
);

test('parts of a name - from the right, quotes taken off', () => {
  expect(nameParts('shop."Odd ""schema""".users')).toEqual([
    { text: 'users', quoted: false },
    { text: 'Odd "schema"', quoted: true },
    { text: 'shop', quoted: false },
  ]);
});

test('a name fits a table - by its own names or those of the partitioned table above, quoted ones to the letter', () => {
  const label = {
    database: 'shop',
    schema: 'public',
    table: 'orders_2025',
    partitionOf: { schema: 'sales', name: 'Orders' },
    estimatedRows: null,
  };
  const fits = (written: string | null): boolean => fitsTable(written)(label);
  for (const written of [
    null,
    'ORDERS_2025',
    'public.orders_2025',
    'shop.public.orders_2025',
    'orders',
    '"Orders"',
  ])
    expect(fits(written), String(written)).toBe(true);
  for (const written of [
    '"ORDERS_2025"',
    '"orders"',
    'sales.orders_2025',
    'other.public.orders_2025',
    '"sales.Orders"',
  ])
    expect(fits(written), written).toBe(false);
});
